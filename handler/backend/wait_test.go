package backend_test

import (
	"testing"
	"testing/synctest"
	"time"
)

// The wait stands in headers of many spellings, or only in the message.
func TestWaitIsReadFromAnyPlace(t *testing.T) {
	words := func(message string) reply { return status(429, `{"error":{"code":"429","message":"`+message+`"}}`) }
	for name, c := range map[string]struct {
		reply reply
		want  time.Duration
	}{
		"seconds":       {status(429, ``, "x-rate-limit-reset-tokens=55"), 55 * time.Second},
		"milliseconds":  {status(429, ``, "x-ratelimit-reset-tokens=6000"), 6 * time.Second},
		"a duration":    {status(429, ``, "x-ratelimit-reset-tokens=1m30s"), 90 * time.Second},
		"a date":        {status(429, ``, "x-ratelimit-reset=946684842"), 42 * time.Second}, // a bubble begins at 946684800
		"both limits":   {status(429, ``, "x-ratelimit-reset-tokens=9", "x-ratelimit-reset-requests=4"), 9 * time.Second},
		"two spellings": {status(429, ``, "x-ratelimit-reset-tokens=9", "x-rate-limit-reset-tokens=11"), 11 * time.Second},
		"no requests left": {
			status(429, ``, "x-ratelimit-reset-tokens=9", "x-ratelimit-reset-requests=4", "x-ratelimit-remaining-requests=0"), 4 * time.Second,
		},
		"the header before": {
			status(429, `{"error":{"message":"retry after 9 seconds"}}`, "Retry-After=3", "x-ratelimit-reset-tokens=55"), 3 * time.Second,
		},
		"0 in the header":           {status(429, `{"error":{"message":"retry after 9 seconds"}}`, "Retry-After=0"), 0},
		"words":                     {words("Please retry after 26 seconds."), 26 * time.Second},
		"words, try again":          {words("Rate limit reached. Please try again in 7.5s. Contact us"), 7500 * time.Millisecond},
		"words, milliseconds":       {words("try again in 250ms"), 250 * time.Millisecond},
		"words, milliseconds whole": {words("Try again in 250 milliseconds"), 250 * time.Millisecond},
		"words, minutes":            {words("try again in 1m30s"), 90 * time.Second},
		"words, two units":          {words("retry after 1 minute 5 seconds"), 65 * time.Second},
		"words, too long":           {words("retry after 86400 seconds"), 5 * time.Minute},
		"words without a time":      {words("Please retry after some time."), 10 * time.Second},
		"other numbers":             {words("You have used 5000 of 6000 tokens."), 10 * time.Second},
		"nonsense":                  {status(429, ``, "x-ratelimit-reset-tokens=soon"), 10 * time.Second},
		"negative":                  {status(429, ``, "x-ratelimit-reset-tokens=-1"), 10 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			p, _ := newPool(t, map[string][]reply{"a": {c.reply}})
			_, _ = ask(t.Context(), p, call(false))
			if got := time.Duration(p.Health()[0].WaitMillis) * time.Millisecond; got != c.want {
				t.Errorf("%s: %v, want %v", name, got, c.want)
			}
		})
	}
}
