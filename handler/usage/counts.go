package usage

import "aoaigateway/handler/gateway"

// Counts are sums over end records. The field Incomplete counts incomplete records.
type Counts struct {
	Requests   int64 `json:"requests"`
	Refused    int64 `json:"refused,omitempty"`   // the gateway refused the request and sent it to no region
	Errors     int64 `json:"errors,omitempty"`    // the answer was a 5xx, was cut off, or was not sent
	Cancelled  int64 `json:"cancelled,omitempty"` // the client disconnected
	Incomplete int64 `json:"incomplete,omitempty"`

	Prompt     int64 `json:"prompt,omitempty"`
	Cached     int64 `json:"cached,omitempty"` // the part of Prompt that was read from the cache
	Completion int64 `json:"completion,omitempty"`
	Reasoning  int64 `json:"reasoning,omitempty"` // the part of Completion that is reasoning
	Audio      int64 `json:"audio,omitempty"`
	Total      int64 `json:"total,omitempty"`
	Estimated  int64 `json:"estimated,omitempty"` // requests whose tokens are estimated

	CostMillionths int64 `json:"costMillionths,omitempty"`

	Answered        int64 `json:"answered,omitempty"`        // number of requests in the next two sums
	Millis          int64 `json:"ms,omitempty"`              // sum of the times from arrival to end, in milliseconds
	FirstByteMillis int64 `json:"firstByteMs,omitempty"`     // sum of the times from arrival to the answer's first byte, in milliseconds
	Failovers       int64 `json:"furtherAttempts,omitempty"` // number of attempts, without the first attempt of each request
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

// countsOf returns the counts of one end record.
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

// count adds one line of the journal to the counts.
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

// amend changes the counts of an answer that was not sent after its end was counted as
// successful: it now counts as an error.
func (e *entity) amend(rec *gateway.Record) {
	unknownEnd := rec.Subscription == "" && rec.Model == ""
	switch {
	case unknownEnd || !failed(rec.Outcome) || rec.Status >= 500: // a 5xx is counted as an error already
	case len(rec.Attempts) == 0:
		e.add(keyOf(rec), Counts{Errors: 1, Refused: -1})
	default:
		e.add(keyOf(rec), Counts{Errors: 1, Answered: -1, Millis: -rec.TotalMilli, FirstByteMillis: -rec.FirstByteMilli})
	}
}
