package table

import (
	"net/http"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// clock determines the store's time from the store's answers. It is a policy in the SDK's
// pipeline. A Date header has whole seconds, so one answer gives the offset only to within
// a second plus the round trip. Further answers narrow the offset down. It changes only if
// an answer contradicts it.
type clock struct {
	start time.Time // base of monotonic time measurement

	mu     sync.Mutex
	known  bool
	offset time.Duration
}

func newClock() *clock { return &clock{start: time.Now()} }

func (c *clock) now() time.Time { return c.start.Add(time.Since(c.start)) }

// Do reads the Date header of every answer, including errors and retries.
func (c *clock) Do(req *policy.Request) (*http.Response, error) {
	sent := c.now()
	resp, err := req.Next()
	if err != nil {
		return resp, err
	}
	if date, derr := http.ParseTime(resp.Header.Get("Date")); derr == nil {
		c.note(date, sent, c.now())
	}
	return resp, nil
}

// note uses the Date header of an answer that the store made between the times sent and
// received.
func (c *clock) note(date, sent, received time.Time) {
	lo, hi := date.Sub(received), date.Add(time.Second).Sub(sent)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.known {
		c.known, c.offset = true, (lo+hi)/2
		return
	}
	c.offset = min(max(c.offset, lo), hi)
}

func (c *clock) get() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.offset
}
