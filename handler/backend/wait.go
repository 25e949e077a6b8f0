package backend

import (
	"net/http"
	"regexp"
	"strconv"
	"time"

	"aoaigateway/handler/backoff"
)

// statedWait is how long a region asks to wait. The zero value = it says nothing.
type statedWait struct {
	time   time.Duration // may be 0
	stated bool
}

// maxStated is the longest wait that is read, so that sums cannot overflow.
const maxStated = time.Hour

// waitOf reads the wait from the headers for it, then from the headers that say when a limit
// is renewed, then from the words of the message.
func waitOf(h http.Header, body []byte) statedWait {
	if wait, ok := backoff.RetryAfter(h); ok {
		return statedWait{wait, true}
	}
	kinds := []string{"-Tokens", "-Requests"}
	if noneLeft(h) {
		kinds = []string{"-Requests", "-Tokens"}
	}
	for _, kind := range append(kinds, "") {
		var longest statedWait
		for _, name := range []string{"X-Ratelimit-Reset", "X-Rate-Limit-Reset", "Ratelimit-Reset"} {
			if wait, ok := renewedIn(h.Get(name + kind)); ok {
				longest = statedWait{max(longest.time, wait), true}
			}
		}
		if longest.stated {
			return longest
		}
	}
	return waitInWords(body)
}

// noneLeft reports whether the headers say that the limit on requests is used up.
func noneLeft(h http.Header) bool {
	return remainingHeader(h, "X-Ratelimit-Remaining-Requests") == 0
}

// renewedIn reads the time until a limit is renewed: a duration such as 1m30s, a time in
// seconds since 1970, or a plain number. Azure sends plain numbers of seconds and, at other
// times, of milliseconds. Its limits are renewed within a minute, so a larger number is one
// of milliseconds.
func renewedIn(value string) (wait time.Duration, ok bool) {
	const longest, epoch = 60, 9e8
	n, err := strconv.ParseFloat(value, 64)
	switch {
	case err != nil:
		wait, err = time.ParseDuration(value)
	case n < 0:
		return 0, false
	case n >= epoch:
		wait = time.Until(time.Unix(int64(min(n, 1e12)), 0))
	case n > longest:
		wait = time.Duration(n * float64(time.Millisecond))
	default:
		wait = time.Duration(n * float64(time.Second))
	}
	return min(max(0, wait), maxStated), err == nil
}

var (
	waitWords = regexp.MustCompile(`(?i)\b(?:retry|try again|wait)\s+(?:after|in|for)\s+((?:\d+(?:\.\d+)?\s*[a-z]+\s*)+)`)
	waitPart  = regexp.MustCompile(`(?i)(\d+(?:\.\d+)?)\s*(milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|h)`)
)

// waitUnits are the units in waitPart, by first letter except milliseconds.
var waitUnits = map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour}

// waitInWords reads a sentence such as "Please retry after 55 seconds." It looks at the
// beginning of the body only.
func waitInWords(body []byte) (wait statedWait) {
	const beginning = 4 << 10
	found := waitWords.FindSubmatch(body[:min(len(body), beginning)])
	if found == nil {
		return wait
	}
	for _, part := range waitPart.FindAllSubmatch(found[1], -1) {
		n, err := strconv.ParseFloat(string(part[1]), 64)
		if err != nil {
			continue
		}
		unit := waitUnits[part[2][0]|0x20]
		if word := string(part[2]); len(word) > 1 && (word[1]|0x20 == 's' || len(word) > 3 && word[2]|0x20 == 'l') {
			unit = time.Millisecond
		}
		wait.stated = true
		wait.time += time.Duration(min(n, maxStated.Seconds()) * float64(unit))
		wait.time = min(wait.time, maxStated)
	}
	return wait
}
