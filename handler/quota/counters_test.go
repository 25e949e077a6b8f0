package quota

import (
	"testing"
	"testing/synctest"
	"time"

	"aoaigateway/handler/policy"
	"aoaigateway/handler/table"
)

// A counter that was forgotten between being found and being used works beside its
// successor as two instances do.
func TestCountersForgottenShareCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const text = "version: 1\nproducts: {p: {limits: [{concurrent: 2, hard: true}, {requests: 3, per: day, hard: true}]}}"
		rules, err := policy.Parse("test", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		l := New(Options{Store: table.NewMem(), Policy: rules})
		p := l.products["p"].counters[0]
		first := l.counters.get(l, p, "alice")
		time.Sleep(2 * idleAfter)
		l.counters.rotate()
		second := l.counters.get(l, p, "alice")
		if first == second {
			t.Fatal("nothing was forgotten")
		}
		take := func(s *counter) *hold {
			h := &hold{amounts: []int64{1}, needsSlot: true, onLost: func() {}}
			if g := s.reserve(t.Context(), h); g.err != nil {
				return nil
			}
			return h
		}
		a, b := take(first), take(second)
		if a == nil || b == nil || take(first) != nil || take(second) != nil {
			t.Fatal("want two under way, and no third")
		}
		<-first.settle(a, []int64{1})
		time.Sleep(time.Second)
		if take(second) == nil {
			t.Error("the slot that was freed is not free")
		}
		<-second.settle(b, []int64{1})
		time.Sleep(time.Second)
		if take(first) != nil {
			t.Error("a fourth request passed a limit of three a day")
		}
	})
}

func TestCountersKeepBusy(t *testing.T) {
	rules, err := policy.Parse("test", []byte("version: 1\nproducts: {p: {limits: [{requests: 3, per: day}]}}"))
	if err != nil {
		t.Fatal(err)
	}
	l := New(Options{Store: table.NewMem(), Policy: rules})
	p := l.products["p"].counters[0]
	busy, fresh, old := l.counters.get(l, p, "busy"), l.counters.get(l, p, "fresh"), l.counters.get(l, p, "old")
	busy.lease.slots = 1
	busy.lastUse, old.lastUse = time.Now().Add(-time.Hour), time.Now().Add(-time.Hour)
	l.counters.rotate()
	for value, want := range map[string]*counter{"busy": busy, "fresh": fresh} {
		if l.counters.get(l, p, value) != want {
			t.Errorf("counter %s was forgotten", value)
		}
	}
	if l.counters.get(l, p, "old") == old {
		t.Error("an idle counter was kept")
	}
}
