package backend

import (
	"net/http"
	"strconv"
	"sync"
	"time"
)

// roomLife is how long a region's word on what is left holds: its limits are per minute.
const headroomLife = time.Minute

const unknown = -1

// room is what a deployment has left by the x-ratelimit-remaining headers of its answers,
// less what was sent there since.
type headroom struct {
	mu       sync.Mutex
	tokens   int64
	requests int64
	at       time.Time // of the last word; zero = none yet
}

// told takes in the headers of an answer.
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

// left is what is known now; the caller holds mu.
func (r *headroom) remaining() (tokens, requests int64) {
	if time.Since(r.at) >= headroomLife {
		return unknown, unknown
	}
	return r.tokens, r.requests
}

// fits says whether one more request would find room; what is not known does.
func (r *headroom) fits(need int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	tokens, requests := r.remaining()
	return requests != 0 && (tokens == unknown || tokens > 0 && tokens >= need)
}

// take books a request that is being sent.
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

// now is for people: nil where nothing is known.
func (r *headroom) known() (tokens, requests *int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, n := r.remaining()
	if t != unknown {
		tokens = &t
	}
	if n != unknown {
		requests = &n
	}
	return tokens, requests
}
