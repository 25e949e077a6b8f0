package table

import (
	"net/http"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// clock learns the store's time from its answers. It is a policy of the SDK's pipeline. A
// Date header has whole seconds, so an answer gives the offset only within a second and
// the round trip. The offset stays as it is while the answers allow it, and they narrow it
// down.
type clock struct {
	start time.Time // its monotonic reading measures the time since then

	mu     sync.Mutex
	known  bool
	offset time.Duration
}

func newClock() *clock { return &clock{start: time.Now()} }

func (c *clock) now() time.Time { return c.start.Add(time.Since(c.start)) }

// Do reads the Date of every answer, also of failures and of each retry.
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

// note takes the Date of an answer that was made between sent and received.
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
