package deployment_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"aoaigateway/handler/deployment"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func throttle(s *deployment.State, at time.Duration, size int64, wait time.Duration, stated bool) {
	now := start.Add(at)
	s.Refused(now, deployment.Sent{At: now.Add(-time.Millisecond), Size: size}, deployment.Refusal{Wait: wait, Stated: stated})
}

func TestRefusalClosesBySize(t *testing.T) {
	var s deployment.State
	throttle(&s, 0, 1000, time.Minute, true)
	throttle(&s, time.Second, 100, 2*time.Second, true)
	for _, c := range []struct {
		at   time.Duration
		size int64
		want deployment.Access
	}{
		{2 * time.Second, 99, deployment.Open},
		{2 * time.Second, 100, deployment.Refused},
		{2 * time.Second, 5000, deployment.Refused},
		{4 * time.Second, 999, deployment.Open},
		{4 * time.Second, 1000, deployment.Refused},
		{59 * time.Second, 1000, deployment.Refused},
		{60 * time.Second, 1000, deployment.Open},
	} {
		if got := s.Access(start.Add(c.at), c.size); got != c.want {
			t.Errorf("after %v a request of %d: %v, want %v", c.at, c.size, got, c.want)
		}
	}
}

func TestRefusalOfRequestsClosesAllSizes(t *testing.T) {
	var s deployment.State
	s.Refused(start, deployment.Sent{At: start, Size: 1000}, deployment.Refusal{Wait: time.Second, Stated: true, Requests: true})
	if got := s.Access(start, 1); got != deployment.Refused {
		t.Errorf("a small request: %v", got)
	}
}

func TestTooLargeRequestClosesNothing(t *testing.T) {
	var s deployment.State
	s.Refused(start, deployment.Sent{At: start, Size: 1001}, deployment.Refusal{Wait: time.Minute, Stated: true, Limit: 1000})
	if got := s.Access(start, 1001); got != deployment.Open {
		t.Errorf("got %v", got)
	}
}

// A wait of 0 or 1 s that is followed by another refusal doubles, up to a minute.
func TestShortWaitDoubles(t *testing.T) {
	for _, c := range []struct {
		wait   time.Duration
		stated bool
		want   []time.Duration
	}{
		{0, true, []time.Duration{0, 1, 2, 4, 8, 16, 32, 60, 60}},
		{time.Second, true, []time.Duration{1, 2, 4, 8}},
		{3 * time.Second, true, []time.Duration{3, 3, 3}},
		{0, false, []time.Duration{10, 20, 40, 60}},
	} {
		var s deployment.State
		at := time.Duration(0)
		for i, want := range c.want {
			throttle(&s, at, 10, c.wait, c.stated)
			now := start.Add(at)
			if got := s.Until(now, 10).Sub(now); got != want*time.Second {
				t.Errorf("wait %v, refusal %d: closed for %v, want %v", c.wait, i, got, want*time.Second)
			}
			at += want*time.Second + 10*time.Millisecond
		}
		now := start.Add(at + 2*time.Minute)
		s.Answered(now, deployment.Sent{At: now.Add(-time.Second), Size: 10})
		throttle(&s, at+2*time.Minute, 10, c.wait, c.stated)
		if got := s.Until(now, 10).Sub(now); got != c.want[0]*time.Second {
			t.Errorf("wait %v: closed for %v after an answer", c.wait, got)
		}
	}
}

// Refusals that were under way together are one, so they double nothing.
func TestParallelRefusalsDoubleNothing(t *testing.T) {
	var s deployment.State
	for i := range 20 {
		now := start.Add(time.Duration(i) * time.Millisecond)
		s.Refused(now, deployment.Sent{At: start.Add(-time.Second), Size: 10}, deployment.Refusal{Wait: time.Second, Stated: true})
	}
	now := start.Add(20 * time.Millisecond)
	if got := s.Until(now, 10).Sub(now); got > time.Second {
		t.Errorf("closed for %v", got)
	}
}

// After the wait a growing number of requests is let through: it doubles with each answer
// and each second.
func TestRecoveryGrows(t *testing.T) {
	var s deployment.State
	throttle(&s, 0, 10, 2*time.Second, true)
	admitted := func(at time.Duration) (n int) {
		for now := start.Add(at); n < 1000 && s.Access(now, 10) == deployment.Open; n++ {
			s.Admit(now, 10)
		}
		return n
	}
	at := 2 * time.Second
	if n := admitted(at); n != 4 {
		t.Errorf("%d at once, want 4", n)
	}
	s.Answered(start.Add(at), deployment.Sent{At: start.Add(at), Size: 10})
	if n := admitted(at); n != 4 {
		t.Errorf("%d more after an answer, want 4", n)
	}
	if n := admitted(at + time.Second); n != 8 {
		t.Errorf("%d more after a second, want 8", n)
	}
	if n := admitted(at + 6*time.Second); n != 1000 {
		t.Errorf("%d more after six seconds, want all", n)
	}
}

// A request that got nothing is enough evidence if others wait too and nobody got an answer
// since it was sent.
func TestSilenceWithOthersWaiting(t *testing.T) {
	for name, c := range map[string]struct {
		waiting int64
		answer  time.Duration // when another request was answered; 0 = never
		want    deployment.Access
	}{
		"others wait":            {3, 0, deployment.Unavailable},
		"few wait":               {2, 0, deployment.Open},
		"another was answered":   {100, 50 * time.Second, deployment.Open},
		"answered before it all": {3, time.Millisecond, deployment.Unavailable},
	} {
		var s deployment.State
		if c.answer > 0 {
			s.Answered(start.Add(c.answer), deployment.Sent{At: start, Size: 10})
		}
		now := start.Add(101 * time.Second)
		s.Failed(now, deployment.Failure{At: now, Caller: "a", Silent: start.Add(time.Second), Waiting: c.waiting, Reason: "first-byte-timeout"})
		if got := s.Access(now, 10); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// After an outage one request tries the deployment; the others go elsewhere until it answers.
// A trial without an end delays the next one by ten seconds.
func TestOutageEndsWithTrial(t *testing.T) {
	var s deployment.State
	for i := range 5 {
		fail(&s, time.Duration(i)*time.Millisecond, "a", "")
	}
	admitted := func(at time.Duration) (n int) {
		for now := start.Add(at); n < 1000 && s.Access(now, 10) == deployment.Open; n++ {
			s.Admit(now, 10)
		}
		return n
	}
	end := 10*time.Second + 5*time.Millisecond
	if n := admitted(end - time.Second); n != 0 {
		t.Errorf("%d before the end, want 0", n)
	}
	if n := admitted(end); n != 1 {
		t.Errorf("%d trials, want 1", n)
	}
	if n := admitted(end + 9*time.Second); n != 0 {
		t.Errorf("%d further trials within ten seconds, want 0", n)
	}
	if n := admitted(end + 11*time.Second); n != 1 {
		t.Errorf("%d further trials after ten seconds, want 1", n)
	}
	for i := range 6 {
		at := end + 11*time.Second + time.Duration(i)*time.Millisecond
		s.Answered(start.Add(at), deployment.Sent{At: start.Add(at), Size: 10})
	}
	if n := admitted(end + 12*time.Second); n != 1000 {
		t.Errorf("%d after six answers, want all", n)
	}
}

func fail(s *deployment.State, at time.Duration, caller, connection string) deployment.Change {
	now := start.Add(at)
	return s.Failed(now, deployment.Failure{At: now, Caller: caller, Connection: connection, Reason: "reset"})
}

// event is a failure of a caller, or a success.
type event struct {
	at         time.Duration
	caller     string // empty = a success
	connection string
}

// outageCases are the rows of TestOutageNeedsEvidence.
var outageCases = []struct {
	name   string
	events []event
	want   deployment.Access
}{
	{"one failure", []event{{0, "x", ""}}, deployment.Open},
	{"three of one caller", []event{{0, "x", ""}, {second, "x", ""}, {2 * second, "x", ""}}, deployment.Open},
	{"three of two callers", []event{{0, "x", ""}, {second, "y", ""}, {2 * second, "x", ""}}, deployment.Unavailable},
	{"three at one moment", []event{{0, "x", ""}, {0, "y", ""}, {0, "x", ""}}, deployment.Open},
	{"with a success among them", []event{{0, "x", ""}, {second, "y", ""}, {at: second}, {2 * second, "x", ""}}, deployment.Open},
	{"four of one connection", []event{{0, "x", "1"}, {0, "y", "1"}, {second, "x", "1"}, {second, "y", "1"}}, deployment.Open},
	{"five of one caller", []event{{0, "x", ""}, {0, "x", ""}, {0, "x", ""}, {0, "x", ""}, {0, "x", ""}}, deployment.Unavailable},
	{"too far apart", []event{{0, "x", ""}, {20 * second, "y", ""}, {40 * second, "x", ""}, {60 * second, "y", ""}}, deployment.Open},
	{"a third of the answers", repeated(4, 2), deployment.Open},
	{"half of the answers", repeated(1, 1), deployment.Unavailable},
}

const second = time.Second

// repeated returns 40 moments, each with the given number of successes and of failures.
func repeated(successes, failures int) (list []event) {
	for i := range 40 {
		for range successes {
			list = append(list, event{at: time.Duration(i) * 50 * time.Millisecond})
		}
		for n := range failures {
			list = append(list, event{time.Duration(i) * 50 * time.Millisecond, string(rune('x' + n)), ""})
		}
	}
	return list
}

func TestOutageNeedsEvidence(t *testing.T) {
	for _, c := range outageCases {
		t.Run(c.name, func(t *testing.T) {
			var s deployment.State
			got := deployment.Open
			for _, e := range c.events {
				now := start.Add(e.at)
				if e.caller == "" {
					s.Answered(now, deployment.Sent{At: now, Size: 1})
				} else {
					fail(&s, e.at, e.caller, e.connection)
				}
				got = max(got, s.Status(now).Access)
			}
			if got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

// Whatever the regions say: no wait is longer than 5 minutes, a smaller request is never
// closed longer than a larger one, and only a stated wait refuses.
func TestStateInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s deployment.State
		now := start
		var statedUntil time.Time
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(90*time.Second)).Draw(t, "pause")))
			sent := deployment.Sent{
				At:   now.Add(-time.Duration(rapid.Int64Range(0, int64(2*time.Minute)).Draw(t, "age"))),
				Size: rapid.Int64Range(0, 1<<40).Draw(t, "size"),
			}
			switch rapid.IntRange(0, 4).Draw(t, "event") {
			case 0, 1:
				r := deployment.Refusal{
					Wait: time.Duration(rapid.Int64Range(0, int64(24*time.Hour)).Draw(t, "wait")), Stated: rapid.Bool().Draw(t, "stated"),
					Requests: rapid.Bool().Draw(t, "requests"), Limit: rapid.Int64Range(0, 1<<40).Draw(t, "limit"),
				}
				if s.Refused(now, sent, r); r.Stated && now.Add(r.Wait).After(statedUntil) {
					statedUntil = now.Add(r.Wait)
				}
			case 2:
				s.Answered(now, sent)
			case 3:
				s.Failed(now, deployment.Failure{At: sent.At, Caller: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "caller")})
			case 4:
				s.Admit(now, sent.Size)
			}
			small, large := s.Until(now, sent.Size), s.Until(now, sent.Size+1)
			if small.Sub(now) > 5*time.Minute || small.After(large) {
				t.Fatalf("closed for %v, and for %v if larger", small.Sub(now), large.Sub(now))
			}
			if s.Access(now, sent.Size) == deployment.Refused && !now.Before(statedUntil) {
				t.Fatal("refused after the last stated wait")
			}
		}
	})
}
