package deployment

import (
	"fmt"
	"slices"
	"time"
)

// Limits on waits.
const (
	maxWait     = 5 * time.Minute        // of a stated wait, so that an extreme value does no harm
	defaultWait = 10 * time.Second       // where the region stated none
	shortWait   = time.Second            // a wait up to this one is doubled when it was too short
	leastWait   = 500 * time.Millisecond // of a wait that is doubled
	maxDoubled  = time.Minute            // of a wait that was doubled; the limits of regions are per minute
	maxClosings = 8                      // sizes that are remembered
)

// Refusal is a region's refusal of one request because of its limits.
type Refusal struct {
	Wait     time.Duration
	Stated   bool  // the region named Wait, which may be 0
	Requests bool  // the limit on requests is used up, so the size does not matter
	Limit    int64 // the limit on tokens; 0 = unknown
}

// size returns the size from which requests are refused. It returns false if the refusal
// says nothing about other requests, because this one can never fit.
func (r Refusal) size(sent Sent) (size int64, ok bool) {
	switch {
	case r.Requests:
		return 0, true
	case r.Limit > 0 && sent.Size > r.Limit:
		return 0, false
	default:
		return sent.Size, true
	}
}

// Closing returns what other instances should know of a refusal: the wait that the region
// stated. It returns false if there is nothing to tell.
func (r Refusal) Closing(now time.Time, sent Sent) (Closing, bool) {
	size, ok := r.size(sent)
	return Closing{WhyThrottled, size, now.Add(min(r.Wait, maxWait))}, ok && r.Stated
}

// Refused says that the region refused a request because of its limits.
func (s *State) Refused(now time.Time, sent Sent, r Refusal) Change {
	size, ok := r.size(sent)
	if !ok {
		return s.change(now, "")
	}
	c := &closing{size: size, since: now, wait: defaultWait}
	if r.Stated {
		c.wait = min(r.Wait, maxWait)
		c.stated = now.Add(c.wait)
	}
	if before := s.lastWait(sent, size); before > 0 && (c.wait <= shortWait || !r.Stated) {
		c.wait = max(c.wait, min(2*before, maxDoubled))
	}
	c.until = now.Add(c.wait)
	c.wait = max(c.wait, leastWait)
	s.throttle(c)
	return s.change(now, r.evidence(sent))
}

func (r Refusal) evidence(sent Sent) string {
	what := fmt.Sprintf("a request of %d tokens was refused", sent.Size)
	if r.Requests {
		what = "the limit on requests is used up"
	}
	if !r.Stated {
		return what + "; the region stated no wait"
	}
	return fmt.Sprintf("%s for %v", what, r.Wait)
}

// lastWait returns how long requests of this size were closed before. It is 0 if they were
// not, if the request was sent before that, or if one was answered since.
func (s *State) lastWait(sent Sent, size int64) (wait time.Duration) {
	for _, c := range s.throttles {
		if c.size <= size && sent.At.After(c.since) {
			wait = max(wait, c.wait)
		}
	}
	return wait
}

// throttle adds a closing. It never shortens one: a closing that is longer for the same or a
// smaller size stays, and others of larger sizes are replaced.
func (s *State) throttle(n *closing) {
	s.throttles = slices.DeleteFunc(s.throttles, func(c *closing) bool { return n.since.Sub(c.until) > maxDoubled })
	for _, c := range s.throttles {
		if c.size <= n.size && !c.until.Before(n.until) && !c.stated.Before(n.stated) {
			c.wait = max(c.wait, n.wait)
			return
		}
	}
	s.throttles = slices.DeleteFunc(s.throttles, func(c *closing) bool {
		return c.size >= n.size && !c.until.After(n.until) && !c.stated.After(n.stated)
	})
	at, _ := slices.BinarySearchFunc(s.throttles, n.size, func(c *closing, size int64) int {
		if c.size < size {
			return -1
		}
		return 1
	})
	s.throttles = slices.Insert(s.throttles, at, n)
	if len(s.throttles) > maxClosings {
		first := slices.MinFunc(s.throttles, func(a, b *closing) int { return a.until.Compare(b.until) })
		s.throttles = slices.DeleteFunc(s.throttles, func(c *closing) bool { return c == first })
	}
}
