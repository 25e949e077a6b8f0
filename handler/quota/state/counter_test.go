package state

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"aoaigateway/handler/policy"
	"aoaigateway/handler/table"
)

func drawLimit(t *rapid.T, hard bool) policy.Limit {
	per := rapid.SampledFrom(periods).Draw(t, "per")
	return policy.Limit{Name: "l", Unit: policy.Tokens, Amount: rapid.Int64Range(1, 1000).Draw(t, "amount"), Per: per, Hard: hard}
}

// Writers with clocks up to 2 s apart reserve and settle against one state: what was
// admitted in a window, less what was given back to it, never exceeds a hard limit, and
// the state's own time never goes back.
func TestHardLimitNeverExceeded(t *testing.T) {
	type held struct{ window, amount int64 }
	rapid.Check(t, func(t *rapid.T) {
		l := drawLimit(t, true)
		limits := []policy.Limit{l}
		s, now, admitted := Counter{limits: map[string]limitState{}}, drawTime(t), map[int64]int64{}
		var holds []held
		step := windowEnd(l.Per, windowStart(l.Per, now)).Sub(windowStart(l.Per, now)).Milliseconds() / 5
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, step).Draw(t, "pause")) * time.Millisecond)
			before := s.Time
			s.Advance(now.Add(time.Duration(rapid.Int64Range(-2e9, 2e9).Draw(t, "skew"))))
			if s.Time.Before(before) {
				t.Fatal("time went back")
			}
			if len(holds) > 0 && rapid.Bool().Draw(t, "settle") {
				h := holds[0]
				holds = holds[1:]
				back := rapid.Int64Range(0, h.amount).Draw(t, "back")
				if s.Adjust(limits, []int64{-back}, []int64{h.window}) {
					admitted[h.window] -= back
				}
				continue
			}
			n := rapid.Int64Range(1, l.Amount).Draw(t, "n")
			ids, denied := s.Admit(limits, []int64{n})
			if denied != nil {
				if denied.Wait <= 0 {
					t.Fatalf("refused without a wait: %+v", denied)
				}
				continue
			}
			admitted[ids[0]] += n
			holds = append(holds, held{ids[0], n})
			if admitted[ids[0]] > l.Amount {
				t.Fatalf("%d admitted in one window of a limit of %d", admitted[ids[0]], l.Amount)
			}
			if c := s.limit(l); c.Charged != admitted[ids[0]] {
				t.Fatalf("counter says %d, admitted were %d", c.Charged, admitted[ids[0]])
			}
		}
	})
}

// A refund of a closed window is dropped.
func TestRefundDropsClosedWindow(t *testing.T) {
	l := policy.Limit{Unit: policy.Tokens, Amount: 100, Per: policy.Hour, Hard: true}
	limits, at := []policy.Limit{l}, time.Date(2027, 1, 1, 9, 59, 59, 0, time.UTC)
	s := Counter{limits: map[string]limitState{}}
	s.Advance(at)
	old, _ := s.Admit(limits, []int64{80})
	s.Advance(at.Add(2 * time.Second))
	if _, denied := s.Admit(limits, []int64{70}); denied != nil {
		t.Fatalf("the next hour refuses: %+v", denied)
	}
	if s.Adjust(limits, []int64{-80}, old) || s.limit(l).Charged != 70 {
		t.Errorf("charged %d after the late refund, want 70", s.limit(l).Charged)
	}
	s.Advance(at) // a clock behind: still the new hour
	if s.limit(l).Charged != 70 {
		t.Errorf("the window moved back")
	}
}

// Over any stretch of time a bucket gives at most itself full and the refill meanwhile.
func TestTokenBucketGivesRefill(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := policy.Limit{Unit: policy.Tokens, Amount: rapid.Int64Range(1, 100_000).Draw(t, "amount"), Per: policy.Minute}
		limits := []policy.Limit{l}
		s, start := Counter{limits: map[string]limitState{}}, drawTime(t).Truncate(time.Millisecond)
		now, given := start, int64(0)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, 40_000).Draw(t, "pause")) * time.Millisecond)
			s.Advance(now)
			n := rapid.Int64Range(1, l.Amount).Draw(t, "n")
			_, denied := s.Admit(limits, []int64{n})
			if denied == nil {
				given += n
			} else {
				later := s.Clone()
				later.Advance(now.Add(denied.Wait))
				if _, still := later.Admit(limits, []int64{n}); still != nil {
					t.Fatalf("refused again after the %v it was told to wait", denied.Wait)
				}
				sooner := s.Clone()
				sooner.Advance(now.Add(denied.Wait - time.Millisecond))
				if _, already := sooner.Admit(limits, []int64{n}); already == nil {
					t.Fatalf("would have passed before the %v it was told to wait", denied.Wait)
				}
			}
			if most := l.Amount + l.Amount*now.Sub(start).Milliseconds()/60_000; given > most {
				t.Fatalf("%d given in %v, limit %d a minute", given, now.Sub(start), l.Amount)
			}
		}
	})
}

func TestTokenBucketDebtIsBounded(t *testing.T) {
	l := policy.Limit{Unit: policy.Tokens, Amount: 600, Per: policy.Minute}
	now := time.Unix(1_800_000_000, 0)
	c := newLimitState(l, now).charge(l, 1_000_000).charge(l, 1_000_000)
	if wait := c.wait(l, 1, now); wait <= time.Minute || wait > time.Minute+time.Second {
		t.Errorf("wait %v after a charge far over the limit, want a minute and a little", wait)
	}
	c = c.roll(l, now.Add(time.Hour))
	if c.left(l) != 600 {
		t.Errorf("%d left after an hour, want a full bucket", c.left(l))
	}
}

// A bucket takes back only within a minute.
func TestTokenBucketRefundExpires(t *testing.T) {
	l := policy.Limit{Unit: policy.Tokens, Amount: 600, Per: policy.Minute}
	now := time.Unix(1_800_000_000, 0)
	c := newLimitState(l, now).charge(l, 600)
	if got := c.refund(l, 500, c.windowID(l)).left(l); got != 500 {
		t.Errorf("%d left after a refund of 500 at once", got)
	}
	later := c.roll(l, now.Add(time.Minute)).charge(l, 600)
	if got := later.refund(l, 500, c.windowID(l)).left(l); got != 0 {
		t.Errorf("%d left after a refund a minute late, want 0", got)
	}
}

// Rounding never keeps a small limit shut.
func TestSmallLimitRefills(t *testing.T) {
	for _, amount := range []int64{1, 3, 7, 59, 61} {
		l := policy.Limit{Unit: policy.Requests, Amount: amount, Per: policy.Minute}
		now := time.Unix(1_800_000_000, 0)
		c := newLimitState(l, now)
		for range 50 {
			c = c.charge(l, amount)
			for range 59_999 / 7 {
				now = now.Add(7 * time.Millisecond)
				c = c.roll(l, now)
			}
			if c.wait(l, amount, now) == 0 {
				t.Fatalf("limit %d: full before its minute was over", amount)
			}
			now = now.Add(4 * time.Millisecond)
			if c = c.roll(l, now); c.wait(l, amount, now) != 0 {
				t.Fatalf("limit %d: not full after a minute: %+v", amount, c)
			}
		}
	}
}

// A limit keeps its counter when it is renamed, resized or made hard.
func TestLimitKeepsStateWhenEdited(t *testing.T) {
	now := time.Date(2027, 5, 10, 0, 0, 0, 0, time.UTC)
	soft := policy.Limit{Name: "a", Unit: policy.Tokens, Amount: 100, Per: policy.Month}
	s := Counter{limits: map[string]limitState{}}
	s.Advance(now)
	if _, denied := s.Admit([]policy.Limit{soft}, []int64{60}); denied != nil {
		t.Fatal(denied)
	}
	changed := policy.Limit{Name: "b", Unit: policy.Tokens, Amount: 80, Per: policy.Month, Hard: true}
	if left := s.limit(changed).left(changed); left != 20 {
		t.Errorf("%d left of 80 after 60 were used under the old name, want 20", left)
	}
	s.Prune()
	if _, ok := s.limits[limitKey(soft)]; !ok {
		t.Error("a counter was dropped while its window is open")
	}
	s.Advance(now.AddDate(0, 1, 0))
	s.Prune()
	if len(s.limits) != 0 {
		t.Errorf("counters of closed windows were kept: %v", s.limits)
	}
}

// One refusal charges none of the limits.
func TestAdmitIsAllOrNothing(t *testing.T) {
	limits := []policy.Limit{
		{Name: "calls", Unit: policy.Requests, Amount: 10, Per: policy.Minute, Hard: true},
		{Name: "day", Unit: policy.Tokens, Amount: 5, Per: policy.Day, Hard: true},
		{Name: "hour", Unit: policy.Tokens, Amount: 5, Per: policy.Hour, Hard: true},
	}
	s := Counter{limits: map[string]limitState{}}
	s.Advance(time.Date(2027, 1, 1, 1, 0, 0, 0, time.UTC))
	_, denied := s.Admit(limits, []int64{1, 6, 6})
	if denied == nil || denied.Limit.Name != "day" || denied.Wait != 23*time.Hour {
		t.Errorf("refusal %+v, want that of the limit with the longest wait", denied)
	}
	if len(s.limits) != 0 {
		t.Errorf("charged all the same: %v", s.limits)
	}
}

// A state comes back from the store as it was.
func TestStateRoundTrip(t *testing.T) {
	s := Counter{limits: map[string]limitState{}}
	s.Advance(time.Date(2027, 1, 1, 1, 0, 0, 123456789, time.UTC))
	for i := range 80 {
		s.RecordWrite(fmt.Sprintf("w%d.1", i))
	}
	s.SetSlots("p1", 3)
	limits := []policy.Limit{
		{Unit: policy.Tokens, Amount: 5, Per: policy.Minute}, {Unit: policy.Tokens, Amount: 5, Per: policy.Year, Hard: true},
	}
	if _, denied := s.Admit(limits, []int64{3, 4}); denied != nil {
		t.Fatal(denied)
	}
	m := table.NewMem()
	props, err := s.Props()
	if err != nil {
		t.Fatal(err)
	}
	e, err := m.Insert(t.Context(), table.Entity{Key: table.Key{Partition: "p", Row: "quota"}, Props: props})
	if err != nil {
		t.Fatal(err)
	}
	back, err := Parse(e)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, back, cmp.AllowUnexported(Counter{}, slot{})); diff != "" {
		t.Errorf("state (-stored +read):\n%s", diff)
	}
	if len(back.ids) != rememberedWriters || back.Writes != 80 {
		t.Errorf("%d ids and %d writes, want %d and 80", len(back.ids), back.Writes, rememberedWriters)
	}
}

// Entities of another format are errors.
func TestParseRefusals(t *testing.T) {
	s := New()
	s.SetSlots("p1", 3)
	props, err := s.Props()
	if err != nil {
		t.Fatal(err)
	}
	e := table.Entity{Key: table.Key{Partition: "p"}, Props: props}
	if _, err := Parse(e); err != nil {
		t.Fatal(err)
	}
	e.Props["v"] = int64(formatVersion + 1)
	if _, err := Parse(e); err == nil || !strings.Contains(err.Error(), "has format version 2; this gateway reads version 1") {
		t.Errorf("an entity of a newer format: %v", err)
	}
	e.Props["v"] = int64(formatVersion)
	e.Props["slots"] = "p1=3"
	if _, err := Parse(e); err == nil {
		t.Error("a broken slot was read")
	}
	delete(e.Props, "writes")
	if _, err := Parse(e); err == nil {
		t.Error("a foreign entity was read as a state")
	}
}

// Among any writes of any writers, one of ours that is not among the ids is said not to
// have been made only if it was not; and with few writers that is always said.
func TestStateRemembersWriteIDs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, writers := Counter{limits: map[string]limitState{}}, rapid.IntRange(1, 100).Draw(t, "writers")
		n := 0
		others := func(name string) {
			for range rapid.IntRange(0, 150).Draw(t, name) {
				n++
				s.RecordWrite(fmt.Sprintf("w%d.%d", rapid.IntRange(1, writers).Draw(t, "writer"), n))
			}
		}
		others("before")
		base := s.Clone()
		others("meanwhile")
		applied := rapid.Bool().Draw(t, "applied")
		if applied {
			s.RecordWrite("us.1")
		}
		others("after")
		if slices.Contains(s.ids, "us.1") || s.Writes == base.Writes {
			return
		}
		if applied && s.RemembersSince(base) {
			t.Fatalf("said not to be made, but it was; %d writes since", s.Writes-base.Writes)
		}
		if !s.RemembersSince(base) && writers < rememberedWriters {
			t.Fatalf("not known, with only %d writers", writers)
		}
		if len(s.ids) > rememberedWriters {
			t.Fatalf("%d ids", len(s.ids))
		}
	})
}
