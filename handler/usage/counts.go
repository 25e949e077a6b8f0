package usage

import (
	"strconv"
	"strings"

	"aoaigateway/handler/gateway"
)

// Key is whose requests are counted, and by what.
type Key struct {
	Subscription string `json:"subscription,omitempty"`
	Product      string `json:"product,omitempty"`
	User         string `json:"user,omitempty"`
	Model        string `json:"model,omitempty"`
	Region       string `json:"region,omitempty"`
	Currency     string `json:"currency,omitempty"` // of the cost
}

// Counts are sums over end records, but for Incomplete.
type Counts struct {
	Requests   int64 `json:"requests"`
	Refused    int64 `json:"refused,omitempty"`   // by the gateway, without asking a region
	Errors     int64 `json:"errors,omitempty"`    // answered 5xx, cut, withheld
	Cancelled  int64 `json:"cancelled,omitempty"` // the client left
	Incomplete int64 `json:"incomplete,omitempty"`

	Prompt     int64 `json:"prompt,omitempty"`
	Cached     int64 `json:"cached,omitempty"` // part of Prompt
	Completion int64 `json:"completion,omitempty"`
	Reasoning  int64 `json:"reasoning,omitempty"` // part of Completion
	Audio      int64 `json:"audio,omitempty"`
	Total      int64 `json:"total,omitempty"`
	Estimated  int64 `json:"estimated,omitempty"` // requests whose tokens were

	CostMillionths int64 `json:"costMillionths,omitempty"`

	Answered        int64 `json:"answered,omitempty"`        // requests that the next two are sums of
	Millis          int64 `json:"ms,omitempty"`              // from arrival to end
	FirstByteMillis int64 `json:"firstByteMs,omitempty"`     // to the first byte of the answer
	Failovers       int64 `json:"furtherAttempts,omitempty"` // attempts beyond a request's first
}

// Row is the counts of one key.
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

func keyOf(rec *gateway.Record) Key {
	k := Key{Subscription: rec.Subscription, Product: rec.Product, User: rec.User, Model: rec.Model, Region: rec.Region}
	if k.User == "" {
		k.User = rec.EndUser
	}
	if rec.Cost != nil {
		k.Currency = rec.Cost.Currency
	}
	return k
}

// countsOf is what one end record adds.
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
		c.CostMillionths = millionths(rec.Cost.Amount)
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

// millionths reads a decimal amount of at most six places; 0 for anything else.
func millionths(amount string) int64 {
	const places = 6
	whole, part, _ := strings.Cut(amount, ".")
	if len(part) > places {
		return 0
	}
	n, err := strconv.ParseInt(whole+part+strings.Repeat("0", places-len(part)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
