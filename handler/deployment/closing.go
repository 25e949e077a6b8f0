package deployment

import "time"

// A throttle ends in steps: firstAllowed requests at once, and twice as many with each answer
// and with each second that has passed. After lastDoubling doublings all are allowed.
//
// An outage ends with one trial, and twice as many requests with each answer. Time alone adds
// only a further trial every trialPause, because each trial may wait until its time limit.
const (
	firstAllowed = 4
	lastDoubling = 6
	trialPause   = 10 * time.Second
)

// closing is a time in which requests of at least a size should not be sent, and what
// follows that time.
type closing struct {
	size   int64
	since  time.Time
	until  time.Time
	stated time.Time // end of the time that the region itself named; zero = it named none
	outage bool
	wait   time.Duration // how long it was closed; the next one is longer if no answer comes between

	admitted int // requests sent after until
	answers  int // answers to such requests
}

func (c *closing) access(now time.Time, closed Access) Access {
	switch {
	case now.Before(c.stated):
		return Refused
	case now.Before(c.until):
		return closed
	case c.doublings(now) < lastDoubling && c.admitted >= c.allowed(now):
		return Recovering
	default:
		return Open
	}
}

// allowed returns how many requests may have been sent since the closing ended.
func (c *closing) allowed(now time.Time) int {
	if c.outage {
		return 1<<c.answers + int(now.Sub(c.until)/trialPause)
	}
	return firstAllowed << c.doublings(now)
}

func (c *closing) doublings(now time.Time) int {
	if c.outage {
		return min(c.answers, lastDoubling)
	}
	return min(c.answers+int(now.Sub(c.until)/time.Second), lastDoubling)
}

// sign counts an answer. It returns true if the closing can be forgotten. A request that was
// sent before the closing says nothing about it.
func (c *closing) sign(now time.Time, sent Sent) (forget bool) {
	if !sent.At.After(c.since) {
		return false
	}
	if now.Before(c.until) { // asked all the same, because there was no other region
		c.until, c.stated = now, time.Time{}
	}
	c.wait = 0
	c.answers++
	return c.doublings(now) >= lastDoubling
}
