package usage

import "aoaigateway/handler/gateway"

// Counts are sums over end records. Only Incomplete counts other records.
type Counts struct {
	Requests   int64 `json:"requests"`
	Refused    int64 `json:"refused,omitempty"`   // by the gateway, without asking a region
	Errors     int64 `json:"errors,omitempty"`    // answered 5xx, cut off, or withheld
	Cancelled  int64 `json:"cancelled,omitempty"` // the client left
	Incomplete int64 `json:"incomplete,omitempty"`

	Prompt     int64 `json:"prompt,omitempty"`
	Cached     int64 `json:"cached,omitempty"` // part of Prompt
	Completion int64 `json:"completion,omitempty"`
	Reasoning  int64 `json:"reasoning,omitempty"` // part of Completion
	Audio      int64 `json:"audio,omitempty"`
	Total      int64 `json:"total,omitempty"`
	Estimated  int64 `json:"estimated,omitempty"` // requests whose tokens were estimated

	CostMillionths int64 `json:"costMillionths,omitempty"`

	Answered        int64 `json:"answered,omitempty"`        // requests counted in the next two sums
	Millis          int64 `json:"ms,omitempty"`              // sum of the times from arrival to end
	FirstByteMillis int64 `json:"firstByteMs,omitempty"`     // sum of the times to the first byte of the answer
	Failovers       int64 `json:"furtherAttempts,omitempty"` // attempts after a request's first one
}

// Row has the counts of one key.
type Row struct {
	Key
	Counts
}

func (c *Counts) add(o Counts) {
	c.Requests += o.Requests
	c.Refused += o.Refused
	c.Errors += o.Errors
	c.Cancelled += o.Cancelled
	c.Incomplete += o.Incomplete
	c.Prompt += o.Prompt
	c.Cached += o.Cached
	c.Completion += o.Completion
	c.Reasoning += o.Reasoning
	c.Audio += o.Audio
	c.Total += o.Total
	c.Estimated += o.Estimated
	c.CostMillionths += o.CostMillionths
	c.Answered += o.Answered
	c.Millis += o.Millis
	c.FirstByteMillis += o.FirstByteMillis
	c.Failovers += o.Failovers
}

// countsOf returns what one end record adds.
func countsOf(rec *gateway.Record) Counts {
	c := Counts{
		Requests: 1, Failovers: int64(max(len(rec.Attempts)-1, 0)),
		Prompt: rec.Usage.Prompt, Cached: rec.Usage.Cached, Completion: rec.Usage.Completion,
		Reasoning: rec.Usage.Reasoning, Audio: rec.Usage.Audio, Total: rec.Usage.Total,
	}
	if rec.Usage.Estimated {
		c.Estimated = 1
	}
	if rec.Cost != nil {
		c.CostMillionths = rec.Cost.Millionths
	}
	switch {
	case rec.Outcome == gateway.Refused:
		c.Refused = 1
	case rec.Outcome == gateway.ClientLeft:
		c.Cancelled = 1
	case failed(rec.Outcome) || rec.Status >= 500:
		c.Errors = 1
	default:
		c.Answered, c.Millis, c.FirstByteMillis = 1, rec.TotalMilli, rec.FirstByteMilli
	}
	return c
}

func failed(o gateway.Outcome) bool {
	return o != gateway.Complete && o != gateway.Refused && o != gateway.ClientLeft
}

// count adds what one line of the journal says.
func (e *entity) count(line *gateway.Line) {
	switch line.Type {
	case gateway.Begin:
	case gateway.End:
		e.add(keyOf(&line.Record), countsOf(&line.Record))
	case gateway.Incomplete:
		e.add(keyOf(&line.Record), Counts{Incomplete: 1})
	case gateway.Amend:
		e.amend(&line.Record)
	}
}

// amend moves an answer that was withheld from where its end was counted to the errors.
func (e *entity) amend(rec *gateway.Record) {
	unknownEnd := rec.Subscription == "" && rec.Model == ""
	switch {
	case unknownEnd || !failed(rec.Outcome) || rec.Status >= 500: // the last is counted as an error already
	case len(rec.Attempts) == 0:
		e.add(keyOf(rec), Counts{Errors: 1, Refused: -1})
	default:
		e.add(keyOf(rec), Counts{Errors: 1, Answered: -1, Millis: -rec.TotalMilli, FirstByteMillis: -rec.FirstByteMilli})
	}
}
