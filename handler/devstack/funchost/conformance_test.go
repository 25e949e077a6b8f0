//go:build unix

package funchost_test

import (
	"slices"
	"sync"
	"testing"

	"aoaigateway/handler/devstack/funchost"
)

// fact is a row of what was recorded from the Functions host, version 4.1037, with a handler
// that shows and plays raw HTTP. A row without a check cannot be had from a stand-in.
type fact struct {
	row    int
	hidden bool // no documentation says so; the recording found it
	sent   string
	got    string
	check  func(t *testing.T, s *site)
	absent string // why there is no check
}

// The recording has three tables. Row 0 of the first two is what is said above them.
const (
	requestRows = 26
	answerRows  = 14
	processRows = 15
)

func TestRequestFacts(t *testing.T) { checkFacts(t, requestFacts, requestRows) }

func TestAnswerFacts(t *testing.T) { checkFacts(t, answerFacts, answerRows) }

func TestProcessFacts(t *testing.T) { checkFacts(t, processFacts, processRows) }

// checkFacts runs the facts side by side against one host and counts the rows they cover.
func checkFacts(t *testing.T, facts []fact, rows int) {
	t.Parallel()
	s := start(t, funchost.Options{})
	covered, absent := map[int]bool{}, 0
	var running sync.WaitGroup // most rows only wait, so they need not share the test processors
	for _, f := range facts {
		covered[f.row] = true
		if f.check == nil {
			absent++
		}
		running.Go(func() {
			t.Run(f.sent, func(t *testing.T) {
				if f.check == nil {
					t.Skip(f.absent)
				}
				if f.check(t, s); t.Failed() {
					t.Logf("recorded: %s: %s", f.sent, f.got)
				}
			})
		})
	}
	running.Wait()
	for row := range rows {
		if !covered[row] {
			t.Errorf("no fact of row %d", row)
		}
	}
	if len(covered) != rows {
		t.Errorf("%d rows, want %d", len(covered), rows)
	}
	t.Logf("%d of %d rows hold, %d cannot be had from a stand-in", rows-absent, rows, absent)
}

// isEmpty expects the host's answer without a body.
func isEmpty(raw string, status int, closes bool) func(*testing.T, *site) {
	return func(t *testing.T, s *site) {
		r := s.send(t, raw)
		if !r.empty(status) {
			t.Errorf("want %d without a body, got %v", status, r)
		}
		if got := r.header.Get("Connection") == "close"; closes && !got {
			t.Errorf("the connection is not closed: %v", r)
		}
	}
}

// all joins checks.
func all(checks ...func(*testing.T, *site)) func(*testing.T, *site) {
	return func(t *testing.T, s *site) {
		for _, check := range checks {
			check(t, s)
		}
	}
}

// arrives expects the handler to be sent these values and nothing for an empty one.
func arrives(raw string, want ...[2]string) func(*testing.T, *site) {
	return func(t *testing.T, s *site) {
		seen := s.send(t, raw).see(t)
		for _, w := range want {
			got := seen.get(w[0])
			if w[1] == "" && len(got) > 0 || w[1] != "" && !slices.Equal(got, []string{w[1]}) {
				t.Errorf("%s: %q, want %q", w[0], got, w[1])
			}
		}
	}
}

// target expects the handler to be sent this request line.
func target(sent, want string) func(*testing.T, *site) {
	return func(t *testing.T, s *site) {
		if line := s.send(t, get(sent)).see(t).lines()[0]; line != "GET "+want+" HTTP/1.1" {
			t.Errorf("%s arrives as %q, want %s", sent, line, want)
		}
	}
}
