package quota

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"aoaigateway/handler/policy"
	"aoaigateway/handler/table"
)

// A lease that was used up before its renewal has nothing to renew: an overage that is
// settled then must charge no lease that nobody receives.
func TestLeaseUsedUpIsNotRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const text = "version: 1\nproducts: {p: {maxOutputTokens: 1, limits: [{tokens: 1000000, per: day, hard: true}]}}"
		rules, err := policy.Parse("test", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		l := New(Options{Store: table.NewMem(), Policy: rules})
		c := l.counters.get(l, l.products["p"].counters[0], "alice")
		reserve := func(n int64) *hold {
			h := &hold{amounts: []int64{n}}
			if r := c.reserve(t.Context(), h); r.err != nil {
				t.Fatal(r.err)
			}
			return h
		}
		var holds []*hold
		for range 10 {
			holds = append(holds, reserve(100))
			time.Sleep(20 * time.Millisecond)
		}
		c.mu.Lock()
		rest, renewAt := c.lease.amounts[0], c.lease.renewAt
		c.mu.Unlock()
		time.Sleep(time.Until(renewAt) + time.Millisecond)
		if rest == 0 {
			t.Fatal("there is no lease to use up")
		}
		last := reserve(rest)
		<-c.settle(holds[0], []int64{150})
		for _, h := range append(holds[1:], last) {
			<-c.settle(h, h.amounts)
		}
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, want := charged(t, l), 10*100+50+rest; got != want {
			t.Errorf("%d charged, want %d", got, want)
		}
	})
}

// charged is what the entity of subscription alice has for a hard limit on tokens per day.
func charged(t *testing.T, l *Limiter) int64 {
	t.Helper()
	e, err := l.store.Get(t.Context(), entityKey("p", policy.BySubscription, "alice"))
	if err != nil {
		t.Fatal(err)
	}
	var limits map[string]struct{ Charged int64 }
	if err := json.Unmarshal([]byte(e.Props["limits"].(string)), &limits); err != nil {
		t.Fatal(err)
	}
	return limits["tokens/day/hard"].Charged
}
