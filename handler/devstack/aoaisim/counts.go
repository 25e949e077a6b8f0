package aoaisim

import (
	"maps"
	"net/http"
	"sync"
	"time"
)

// Counts are the numbers of requests that a region received, and what it answered.
type Counts struct {
	Requests    int64                `json:"requests"` // received
	Open        int64                `json:"open"`     // being answered now
	Answered    int64                `json:"answered"` // answered completely, with usage and terminal event
	Cut         int64                `json:"cut"`      // answers that began and were cut off
	Events      int64                `json:"events"`   // events sent in streams
	Statuses    map[int]int64        `json:"statuses"`
	Usage       Usage                `json:"usage"`   // of complete answers
	Partial     Usage                `json:"partial"` // of answers that were cut off, up to the cut
	Charged     Usage                `json:"charged"` // of answers that cost although they are not complete
	Deployments map[string]*Deployed `json:"deployments"`
	Attempts    map[string]int       `json:"attempts"` // number of requests by client request id
	Last        *Exchange            `json:"last,omitempty"`
}

// Deployed are the counts of one deployment.
type Deployed struct {
	Requests int64 `json:"requests"`
	Answered int64 `json:"answered"`
	Usage    Usage `json:"usage"`
}

// Exchange is one request that the region received, and its answer.
type Exchange struct {
	ID         string      `json:"id"` // sent as the header apim-request-id
	Time       time.Time   `json:"time"`
	Method     string      `json:"method"`
	URL        string      `json:"url"`
	Host       string      `json:"host"`
	Header     http.Header `json:"header"`
	Body       []byte      `json:"body"` // in base64, as JSON requires
	Deployment string      `json:"deployment,omitempty"`
	Operation  string      `json:"operation,omitempty"`
	Status     int         `json:"status"`
	Scenario   string      `json:"scenario,omitempty"`
	Stream     bool        `json:"stream,omitempty"`
	Cut        bool        `json:"cut,omitempty"`
	Whole      bool        `json:"whole,omitempty"`
	Usage      Usage       `json:"usage"`
	Response   []byte      `json:"response"` // the first MiB of the answer's body
	Sent       int64       `json:"sent"`     // bytes of the body that were written

	ledger *ledger
	asked  string
}

const (
	keptExchanges = 64
	keptBody      = 1 << 20
	keptAttempts  = 200_000
)

// ledger keeps the counts and exchanges of the region. An exchange in progress belongs to
// its goroutine, and is copied into the ledger when it ends.
type ledger struct {
	mu     sync.Mutex
	counts Counts
	recent []Exchange
}

func (l *ledger) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts = Counts{
		Open: l.counts.Open, Statuses: map[int]int64{},
		Deployments: map[string]*Deployed{}, Attempts: map[string]int{},
	}
	l.recent = nil
}

func requestID(h http.Header) string {
	for _, name := range []string{"x-ms-client-request-id", "x-request-id"} {
		if id := h.Get(name); id != "" {
			return id
		}
	}
	return ""
}

func (l *ledger) arrived(r *http.Request, body []byte, id string) *Exchange {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.Requests++
	l.counts.Open++
	asked := requestID(r.Header)
	if asked != "" && len(l.counts.Attempts) < keptAttempts {
		l.counts.Attempts[asked]++
	}
	return &Exchange{
		ID: id, Time: time.Now(), Method: r.Method, URL: r.URL.RequestURI(), Host: r.Host, Header: r.Header.Clone(),
		Body: body, ledger: l, asked: asked,
	}
}

func (e *Exchange) sent(p []byte) {
	e.Sent += int64(len(p))
	if room := keptBody - len(e.Response); room > 0 {
		e.Response = append(e.Response, p[:min(room, len(p))]...)
	}
}

func (l *ledger) event() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.Events++
}

func (l *ledger) deployment(name string) *Deployed {
	d := l.counts.Deployments[name]
	if d == nil {
		d = &Deployed{}
		l.counts.Deployments[name] = d
	}
	return d
}

// answered counts a complete answer with the usage u.
func (e *Exchange) answered(u Usage) {
	e.Whole, e.Usage = true, u
	l := e.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.Answered++
	l.counts.Usage.add(u)
	d := l.deployment(e.Deployment)
	d.Answered++
	d.Usage.add(u)
}

// partial counts an answer that was cut off after this many tokens.
func (e *Exchange) partial(u Usage, tokens int) {
	u.Completion = int64(tokens) + u.Reasoning
	u.Total = u.Prompt + u.Completion
	e.Usage, e.Cut = u, true
	l := e.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.Partial.add(u)
}

// charged counts an answer that costs u and is not complete.
func (e *Exchange) charged(u Usage) {
	e.Usage = u
	e.ledger.mu.Lock()
	defer e.ledger.mu.Unlock()
	e.ledger.counts.Charged.add(u)
}

// left adds an exchange that has ended to the ledger.
func (l *ledger) left(e *Exchange) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.Open--
	l.counts.Statuses[e.Status]++
	if e.Cut {
		l.counts.Cut++
	}
	if e.Deployment != "" {
		l.deployment(e.Deployment).Requests++
	}
	if len(e.Body) > keptBody {
		e.Body = e.Body[:keptBody:keptBody]
	}
	l.recent = append(l.recent, *e)
	if len(l.recent) > keptExchanges {
		l.recent = append([]Exchange(nil), l.recent[1:]...)
	}
}

func (l *ledger) snapshot() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.counts
	c.Statuses, c.Attempts = maps.Clone(c.Statuses), maps.Clone(c.Attempts)
	c.Deployments = map[string]*Deployed{}
	for name, d := range l.counts.Deployments {
		copied := *d
		c.Deployments[name] = &copied
	}
	if n := len(l.recent); n > 0 {
		last := l.recent[n-1]
		c.Last = &last
	}
	return c
}

func (l *ledger) exchanges() []Exchange {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Exchange{}, l.recent...)
}

// Counts returns the counts so far.
func (r *Region) Counts() Counts { return r.counts.snapshot() }

// Exchanges returns the last 64 exchanges that have ended, oldest first.
func (r *Region) Exchanges() []Exchange { return r.counts.exchanges() }

// ResetCounts sets all counts to zero and forgets the exchanges.
func (r *Region) ResetCounts() { r.counts.reset() }
