package backend

import (
	"net/http"
	"strconv"
	"sync"
	"time"
)

// headroomLife is how long the values of rate-limit headers are used. A region's limits are
// per minute.
const headroomLife = time.Minute

const unknown = -1

// headroom is what a deployment has left of its rate limits: the x-ratelimit-remaining
// headers of its last answer, minus what was sent to it since.
type headroom struct {
	mu       sync.Mutex
	tokens   int64
	requests int64
	at       time.Time // when the headers arrived; zero = none have arrived yet
}

// update reads the rate-limit headers of an answer.
func (r *headroom) update(h http.Header) {
	tokens, requests := remainingHeader(h, "X-Ratelimit-Remaining-Tokens"), remainingHeader(h, "X-Ratelimit-Remaining-Requests")
	if tokens == unknown && requests == unknown {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tokens, r.requests, r.at = tokens, requests, time.Now()
}

func remainingHeader(h http.Header, name string) int64 {
	n, err := strconv.ParseInt(h.Get(name), 10, 64)
	if err != nil || n < 0 {
		return unknown
	}
	return n
}

// remaining returns what is left; unknown if no recent headers say it. The caller has
// locked mu.
func (r *headroom) remaining(now time.Time) (tokens, requests int64) {
	if now.Sub(r.at) >= headroomLife {
		return unknown, unknown
	}
	return r.tokens, r.requests
}

// fits reports whether the headroom covers need tokens and one request. An unknown headroom
// covers everything.
func (r *headroom) fits(now time.Time, need int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	tokens, requests := r.remaining(now)
	return requests != 0 && (tokens == unknown || tokens > 0 && tokens >= need)
}

// deduct subtracts a request that is about to be sent.
func (r *headroom) deduct(need int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tokens > 0 {
		r.tokens = max(0, r.tokens-need)
	}
	if r.requests > 0 {
		r.requests--
	}
}

// known returns the headroom for Health; nil = unknown.
func (r *headroom) known() (tokens, requests *int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, n := r.remaining(time.Now())
	if t != unknown {
		tokens = &t
	}
	if n != unknown {
		requests = &n
	}
	return tokens, requests
}
