package backend

import (
	"net/http"
	"strconv"
	"sync"
	"time"
)

// roomLife is how long a region's word on what is left holds: its limits are per minute.
const roomLife = time.Minute

const unknown = -1

// room is what a deployment has left by the x-ratelimit-remaining headers of its answers,
// less what was sent there since.
type room struct {
	mu       sync.Mutex
	tokens   int64
	requests int64
	at       time.Time // of the last word; zero = none yet
}

// told takes in the headers of an answer.
func (r *room) told(h http.Header) {
	tokens, requests := remaining(h, "X-Ratelimit-Remaining-Tokens"), remaining(h, "X-Ratelimit-Remaining-Requests")
	if tokens == unknown && requests == unknown {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tokens, r.requests, r.at = tokens, requests, time.Now()
}

func remaining(h http.Header, name string) int64 {
	n, err := strconv.ParseInt(h.Get(name), 10, 64)
	if err != nil || n < 0 {
		return unknown
	}
	return n
}

// left is what is known now; the caller holds mu.
func (r *room) left() (tokens, requests int64) {
	if time.Since(r.at) >= roomLife {
		return unknown, unknown
	}
	return r.tokens, r.requests
}

// fits says whether one more request would find room; what is not known does.
func (r *room) fits(need int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	tokens, requests := r.left()
	return requests != 0 && (tokens == unknown || tokens > 0 && tokens >= need)
}

// take books a request that is being sent.
func (r *room) take(need int64) {
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
func (r *room) now() (tokens, requests *int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, n := r.left()
	if t != unknown {
		tokens = &t
	}
	if n != unknown {
		requests = &n
	}
	return tokens, requests
}
