package backend

import (
	"math"
	"net/http"
	"strconv"
	"time"
)

// maxWait caps what a region may ask for.
const maxWait = 5 * time.Minute

// retryAfter reads how long a region wants to be left alone: retry-after-ms, otherwise
// Retry-After in seconds or as a date. A value that cannot be read counts as absent.
func retryAfter(h http.Header) time.Duration {
	if h["Retry-After"] == nil && h["Retry-After-Ms"] == nil {
		return 0
	}
	if ms, err := strconv.ParseFloat(h.Get("retry-after-ms"), 64); err == nil && ms > 0 {
		return capped(ms / 1000)
	}
	v := h.Get("Retry-After")
	if s, err := strconv.ParseFloat(v, 64); err == nil && s > 0 {
		return capped(s)
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, min(time.Until(at), maxWait))
	}
	return 0
}

func capped(seconds float64) time.Duration {
	return time.Duration(math.Min(seconds, maxWait.Seconds()) * float64(time.Second))
}
