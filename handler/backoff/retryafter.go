package backoff

import (
	"math"
	"net/http"
	"strconv"
	"time"
)

// maxRetryAfter is the longest time that RetryAfter returns, even if a service asks for
// more.
const maxRetryAfter = 5 * time.Minute

// RetryAfter returns how long a service asks its clients to wait. It reads Retry-After-Ms
// or X-Ms-Retry-After-Ms (milliseconds), and Retry-After (seconds or a date); the first
// that is more than 0 counts. stated is false if no header has a valid value.
func RetryAfter(h http.Header) (wait time.Duration, stated bool) {
	for _, name := range []string{"Retry-After-Ms", "X-Ms-Retry-After-Ms"} {
		if ms, err := strconv.ParseFloat(h.Get(name), 64); err == nil && ms >= 0 {
			wait, stated = seconds(ms/1000), true
			if ms > 0 {
				return wait, true
			}
		}
	}
	v := h.Get("Retry-After")
	if v == "" {
		return 0, stated
	}
	if s, err := strconv.ParseFloat(v, 64); err == nil && s >= 0 {
		return seconds(s), true
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, min(time.Until(at), maxRetryAfter)), true
	}
	return 0, stated
}

func seconds(n float64) time.Duration {
	return time.Duration(math.Min(n, maxRetryAfter.Seconds()) * float64(time.Second))
}
