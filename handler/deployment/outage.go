package deployment

import (
	"fmt"
	"slices"
	"time"
)

// When a deployment counts as unavailable. Failures older than evidenceLife do not count.
const (
	evidenceLife = 30 * time.Second
	closedFor    = 10 * time.Second

	quiet        = 10 * time.Second // one failure to connect is enough without a success in this time
	fewFailures  = 3                // without a success among them, of two callers, over fewSpan: enough
	fewSpan      = time.Second
	someFailures = 5  // without a success among them: enough
	manyFailures = 10 // with no more successes than failures among them: enough
	othersWait   = 3  // so many other requests wait too, and no answer came since the request was sent: one failure is enough
)

// Failure is one piece of evidence that the deployment is unavailable. The request itself
// must not be the reason: nothing of it was sent, or another region has answered it.
type Failure struct {
	At         time.Time
	Caller     string
	Connection string    // the connection that broke; empty = the failure is not of a connection
	Unsent     bool      // nothing of the request reached the region
	Silent     time.Time // the request was sent then, and nothing came back; zero = it failed in another way
	Waiting    int64     // with Silent: the number of other requests in flight
	Reason     string
}

// Failed adds a piece of evidence. Failures of one connection count once.
func (s *State) Failed(now time.Time, f Failure) Change {
	evidence, enough := s.failures.add(now, f)
	if enough && (s.outage == nil || !now.Before(s.outage.until)) {
		s.outage = &closing{outage: true, since: now, until: now.Add(closedFor)}
	}
	return s.change(now, evidence)
}

// kept is how many successes are remembered: more than change the decision.
const kept = 2 * manyFailures

// failures are the last failures, and the times of the last successes.
type failures struct {
	list      []Failure // oldest first; at most manyFailures
	successes [kept]time.Time
	next      int // index in successes of the oldest time
}

func (f *failures) success(now time.Time) {
	f.successes[f.next] = now
	f.next = (f.next + 1) % kept
}

func (f *failures) since(at time.Time) (n int) {
	for _, success := range f.successes {
		if !success.IsZero() && !success.Before(at) {
			n++
		}
	}
	return n
}

// add reports whether the failures up to now show that the deployment is unavailable.
func (f *failures) add(now time.Time, n Failure) (evidence string, enough bool) {
	same := func(old Failure) bool { return old.Connection != "" && old.Connection == n.Connection }
	if slices.ContainsFunc(f.list, same) {
		return "", false
	}
	f.list = append(f.list, n)
	slices.SortStableFunc(f.list, func(a, b Failure) int { return a.At.Compare(b.At) })
	f.list = slices.DeleteFunc(f.list, func(old Failure) bool { return now.Sub(old.At) >= evidenceLife })
	f.list = slices.Delete(f.list, 0, max(0, len(f.list)-manyFailures))
	callers := map[string]bool{}
	if len(f.list) == 0 { // all are too old, this one too
		return "", false
	}
	newest := f.list[len(f.list)-1]
	for i, oldest := range slices.Backward(f.list) {
		callers[oldest.Caller] = true
		count, successes, span := len(f.list)-i, f.since(oldest.At), newest.At.Sub(oldest.At)
		switch {
		case n.Unsent && f.since(now.Add(-quiet)) == 0,
			!n.Silent.IsZero() && n.Waiting >= othersWait && f.since(n.Silent) == 0,
			successes == 0 && count >= someFailures,
			successes == 0 && count >= fewFailures && len(callers) > 1 && span >= fewSpan,
			count >= manyFailures && successes <= count:
			return fmt.Sprintf("%d failures of %d callers and %d successes in %v, the last: %s",
				count, len(callers), successes, span.Round(time.Millisecond), newest.Reason), true
		}
	}
	return "", false
}
