package aoaisim

import (
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// limiter has the rate limits of one deployment. A request is charged when it arrives, and
// nothing is given back.
type limiter struct {
	mu       sync.Mutex
	tokens   bucket // of a minute
	requests bucket // of a slice of a minute
	minute   int    // requests in a minute, as the headers have it
	left     int    // requests left in this minute, as the headers have it
	since    time.Time
	free     bool // refused requests do not count
	stale    bool // headers say what they said at first
	first    *admission
}

// bucket is a limit. It refills evenly, or at once when its period is over.
type bucket struct {
	size, level float64 // size 0 = unlimited
	period      time.Duration
	atOnce      bool
	at          time.Time // the last refill
}

type admission struct {
	ok       bool
	what     string // token or call: the limit that refused
	wait     time.Duration
	tokens   bucket
	requests bucket
	minute   int
	left     int
}

func newLimiter(d Deployment, s Switches) *limiter {
	perSlice := math.Ceil(float64(d.RequestsPerMinute) * s.Slice.Minutes())
	tokens := float64(d.TokensPerMinute)
	return &limiter{
		tokens:   bucket{size: tokens, level: tokens, period: time.Minute, atOnce: s.MinuteReset},
		requests: bucket{size: perSlice, level: perSlice, period: s.Slice, atOnce: true},
		minute:   d.RequestsPerMinute, left: d.RequestsPerMinute, free: s.RefusedAreFree, stale: s.StaleHeaders,
	}
}

func (b *bucket) refill(now time.Time) {
	switch passed := now.Sub(b.at); {
	case b.at.IsZero():
		b.at = now
	case !b.atOnce:
		b.level = min(b.size, b.level+b.size*float64(passed)/float64(b.period))
		b.at = now
	case passed >= b.period:
		b.level, b.at = b.size, b.at.Add(passed.Truncate(b.period))
	}
}

// wait returns how long it takes until cost can be charged. A cost larger than the bucket
// can never be charged.
func (b *bucket) wait(cost float64, now time.Time) time.Duration {
	switch {
	case b.size == 0 || cost <= b.level:
		return 0
	case cost > b.size:
		return 24 * time.Hour
	case b.atOnce:
		return b.at.Add(b.period).Sub(now)
	}
	millis := math.Ceil((cost - b.level) / b.size * float64(b.period/time.Millisecond))
	return max(time.Millisecond, time.Duration(millis)*time.Millisecond)
}

func (l *limiter) take(now time.Time, tokens int) admission {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tokens.refill(now)
	l.requests.refill(now)
	if now.Sub(l.since) >= time.Minute {
		l.left, l.since = l.minute, now
	}
	v := admission{ok: true}
	if w := l.requests.wait(1, now); w > 0 {
		v = admission{what: "call", wait: w}
	} else if w := l.tokens.wait(float64(tokens), now); w > 0 {
		v = admission{what: "token", wait: w}
	} else {
		l.tokens.level -= float64(tokens)
	}
	if v.ok || !l.free {
		l.requests.level--
		l.left--
	}
	v.tokens, v.requests, v.minute, v.left = l.tokens, l.requests, l.minute, l.left
	if l.first == nil {
		l.first = &v
	}
	if l.stale {
		v.tokens, v.requests, v.left = l.first.tokens, l.first.requests, l.first.left
	}
	return v
}

// headers sets the rate headers. A limit that is never reached is high, since the service
// always names one.
func (v admission) headers(h http.Header, s Switches) {
	const high = 100_000_000
	set := func(name string, value int) { h.Set("x-ratelimit-"+name, strconv.Itoa(value)) }
	tokens, left := high, high
	if v.tokens.size > 0 {
		tokens, left = int(v.tokens.size), int(math.Floor(v.tokens.level))
	}
	requests, requestsLeft := high/1000, high/1000-1
	if v.minute > 0 {
		requests, requestsLeft = v.minute, v.left
	}
	unit := time.Millisecond
	if s.ResetInSeconds {
		unit = time.Second
	}
	reset := func(limit, left int) int {
		return int(time.Duration(float64(limit-left)/float64(limit)*float64(time.Minute)) / unit)
	}
	set("limit-tokens", tokens)
	set("remaining-tokens", left)
	set("reset-tokens", reset(tokens, left))
	set("renewalperiod-tokens", 60)
	set("limit-requests", requests)
	set("remaining-requests", requestsLeft)
	set("reset-requests", reset(requests, requestsLeft))
	set("renewalperiod-requests", int(s.Slice/time.Second))
}
