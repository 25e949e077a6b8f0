package aoaisim

import (
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// limiter has the rate limits of one deployment: two buckets that refill continuously. A
// request is charged its prompt and max_tokens when it arrives. Nothing is given back.
type limiter struct {
	mu       sync.Mutex
	tokens   bucket
	requests bucket
}

type bucket struct {
	size, level float64 // size 0 = unlimited
	at          time.Time
}

type admission struct {
	ok       bool
	what     string // "token" or "call": the limit that refused
	wait     time.Duration
	tokens   bucket
	requests bucket
}

func newLimiter(d Deployment) *limiter {
	return &limiter{
		tokens:   bucket{size: float64(d.TokensPerMinute), level: float64(d.TokensPerMinute)},
		requests: bucket{size: float64(d.RequestsPerMinute), level: float64(d.RequestsPerMinute)},
	}
}

func (b *bucket) refill(now time.Time) {
	if !b.at.IsZero() {
		b.level = min(b.size, b.level+b.size*now.Sub(b.at).Minutes())
	}
	b.at = now
}

// wait returns how long it takes until cost can be charged. A cost larger than the bucket
// can never be charged.
func (b *bucket) wait(cost float64) time.Duration {
	switch {
	case b.size == 0 || cost <= b.level:
		return 0
	case cost > b.size:
		return 24 * time.Hour
	}
	return max(time.Millisecond, time.Duration(math.Ceil((cost-b.level)/b.size*float64(time.Minute/time.Millisecond)))*time.Millisecond)
}

func (l *limiter) take(now time.Time, tokens int) admission {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tokens.refill(now)
	l.requests.refill(now)
	v := admission{ok: true}
	if w := l.requests.wait(1); w > 0 {
		v = admission{what: "call", wait: w}
	} else if w := l.tokens.wait(float64(tokens)); w > 0 {
		v = admission{what: "token", wait: w}
	} else {
		l.requests.level--
		l.tokens.level -= float64(tokens)
	}
	v.tokens, v.requests = l.tokens, l.requests
	return v
}

func (v admission) headers(h http.Header) {
	for name, b := range map[string]bucket{"tokens": v.tokens, "requests": v.requests} {
		if b.size > 0 {
			h.Set("x-ratelimit-limit-"+name, strconv.Itoa(int(b.size)))
			h.Set("x-ratelimit-remaining-"+name, strconv.Itoa(max(0, int(b.level))))
		}
	}
}
