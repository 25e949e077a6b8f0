package backoff_test

import (
	"net/http"
	"testing"
	"time"

	"aoaigateway/handler/backoff"
)

func TestRetryAfterReadsEachHeader(t *testing.T) {
	const maximum = 5 * time.Minute
	date := time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat)
	for _, c := range []struct {
		name, value string
		least, most time.Duration
		stated      bool
	}{
		{"Retry-After", "7", 7 * time.Second, 7 * time.Second, true},
		{"Retry-After", "0.5", 500 * time.Millisecond, 500 * time.Millisecond, true},
		{"Retry-After", date, 80 * time.Second, 90 * time.Second, true},
		{"Retry-After", "999999999999", maximum, maximum, true},
		{"Retry-After", "0", 0, 0, true},
		{"Retry-After-Ms", "0", 0, 0, true},
		{"Retry-After", "-3", 0, 0, false},
		{"Retry-After", "soon", 0, 0, false},
		{"Retry-After-Ms", "250", 250 * time.Millisecond, 250 * time.Millisecond, true},
		{"X-Ms-Retry-After-Ms", "250", 250 * time.Millisecond, 250 * time.Millisecond, true},
	} {
		h := http.Header{}
		h.Set(c.name, c.value)
		if got, stated := backoff.RetryAfter(h); got < c.least || got > c.most || stated != c.stated {
			t.Errorf("%s: %s gave %v, want %v to %v", c.name, c.value, got, c.least, c.most)
		}
	}
}
