package usage_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/table"
	"aoaigateway/handler/usage"
)

const (
	file  = "2026/11/23/20/aaaa-000000.jsonl.gz"
	other = "2026/11/23/20/bbbb-000000.jsonl.gz"
)

var hour = usage.Query{
	From: time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC), To: time.Date(2026, 11, 23, 21, 0, 0, 0, time.UTC), By: []string{"subscription"},
}

func end(id, subscription string, tokens int64) gateway.Line {
	return gateway.Line{Type: gateway.End, Record: gateway.Record{
		ID: id, Caller: gateway.Caller{Subscription: subscription, Product: "p"}, Model: "m", Region: "r", Outcome: gateway.Complete, Status: 200,
		Usage: gateway.Usage{Prompt: tokens - 1, Completion: 1, Total: tokens}, TotalMilli: 20, FirstByteMilli: 10,
		Cost: &gateway.Cost{Millionths: 2, Currency: "USD"}, Attempts: make([]gateway.Attempt, 1),
	}}
}

// parts returns batches of two ends each, one of alice and one of bob, of 10 tokens.
func parts(from, to int) (list []gateway.Entry) {
	for i := from; i < to; i++ {
		list = append(list, batch(int64(100*i), end(fmt.Sprint("a", i), "alice", 10), end(fmt.Sprint("b", i), "bob", 10))...)
	}
	return list
}

func batch(offset int64, lines ...gateway.Line) (list []gateway.Entry) {
	for i := range lines {
		list = append(list, gateway.Entry{Line: lines[i], Offset: offset, Index: 2 * i}) // begins are left out
	}
	return list
}

func add(t *testing.T, s *usage.Store, file string, list []gateway.Entry) {
	t.Helper()
	if err := s.Take(t.Context(), file, list); err != nil {
		t.Fatal(err)
	}
}

// requests returns the requests of each subscription, and checks that tokens and cost agree.
func requests(t *testing.T, store table.Store) map[string]int64 {
	t.Helper()
	rows, err := usage.New(store).Read(t.Context(), hour)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int64{}
	for _, r := range rows {
		found[r.Subscription] += r.Requests
		if r.Total != 10*r.Requests || r.CostMillionths != 2*r.Requests || r.Answered != r.Requests || r.Millis != 20*r.Requests {
			t.Errorf("%+v", r)
		}
	}
	return found
}

func want(t *testing.T, store table.Store, each int64) {
	t.Helper()
	if d := cmp.Diff(map[string]int64{"alice": each, "bob": each}, requests(t, store)); d != "" {
		t.Errorf("requests (-want +got):\n%s", d)
	}
}

func TestRecordCountsOnce(t *testing.T) {
	store := table.NewMem()
	first := usage.New(store)
	add(t, first, file, parts(0, 2))
	add(t, first, file, parts(0, 2)) // the same again
	add(t, first, file, parts(1, 3)) // and some new
	second := usage.New(store)
	add(t, second, file, parts(0, 5)) // another process takes the file over
	add(t, first, file, parts(3, 6))  // the first process does not know that
	want(t, store, 6)
	for range 2 {
		if err := second.Close(t.Context(), file); err != nil {
			t.Fatal(err)
		}
	}
	add(t, first, file, parts(0, 9)) // too late
	add(t, usage.New(store), file, parts(0, 9))
	want(t, store, 6)
	add(t, first, other, parts(0, 1))
	want(t, store, 7)
}

func TestEmptyFileClosesForGood(t *testing.T) {
	store := table.NewMem()
	s := usage.New(store)
	if err := s.Close(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	add(t, s, file, parts(0, 1))
	if n := len(requests(t, store)); n != 0 {
		t.Errorf("%d rows", n)
	}
}

var errAway = errors.New("away")

// Every operation in turn fails, before or after it was applied, and is then repeated, as a recovery does.
func TestFaultsKeepCountsExact(t *testing.T) {
	for _, applied := range []bool{false, true} {
		for nth := 1; ; nth++ {
			store := table.NewMem()
			n := 0
			store.SetFault(func(context.Context, table.Op, table.Key) (bool, error) {
				if n++; n == nth {
					return applied, errAway
				}
				return true, nil
			})
			insist := func(do func(s *usage.Store) error) {
				s := usage.New(store) // nothing but the table is remembered
				for range 3 {
					if do(s) == nil {
						return
					}
				}
				t.Fatal("never done")
			}
			for i := range 3 {
				insist(func(s *usage.Store) error { return s.Take(t.Context(), file, parts(0, i+1)) })
				insist(func(s *usage.Store) error { return s.Take(t.Context(), other, parts(i, i+1)) })
			}
			insist(func(s *usage.Store) error { return s.Close(t.Context(), file) })
			insist(func(s *usage.Store) error { return s.Close(t.Context(), other) })
			store.SetFault(nil)
			want(t, store, 6)
			if n < nth {
				break
			}
		}
	}
}

func TestConcurrentRollUpsAgree(t *testing.T) {
	store := table.NewMem()
	const files = 40
	names := make([]string, files)
	for i := range names {
		names[i] = fmt.Sprintf("2026/11/23/20/p%d-000000.jsonl.gz", i)
		add(t, usage.New(store), names[i], parts(0, 3))
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			s := usage.New(store)
			for _, name := range names {
				for s.Close(t.Context(), name) != nil { // lost too many races
				}
			}
		})
	}
	wg.Go(func() {
		for range 50 {
			want(t, store, 3*files)
		}
	})
	wg.Wait()
	want(t, store, 3*files)
}

func TestCountsByOutcome(t *testing.T) {
	store := table.NewMem()
	s := usage.New(store)
	line := func(id string, change func(*gateway.Record)) gateway.Line {
		l := end(id, "alice", 10)
		change(&l.Record)
		return l
	}
	amend := func(id string, change func(*gateway.Record)) gateway.Line {
		l := line(id, change)
		l.Type, l.Outcome = gateway.Amend, gateway.NotDurable
		return l
	}
	refused := func(r *gateway.Record) {
		r.Outcome, r.Status, r.Usage, r.Cost, r.Attempts = gateway.Refused, 429, gateway.Usage{}, nil, nil
	}
	add(t, s, file, batch(0,
		line("1", func(r *gateway.Record) { r.Usage.Cached, r.Usage.Reasoning, r.Usage.Estimated = 3, 1, true }),
		line("2", refused),
		line("3", func(r *gateway.Record) { r.Outcome = gateway.UpstreamCut }),
		line("4", func(r *gateway.Record) { r.Status, r.Attempts = 503, make([]gateway.Attempt, 3) }),
		line("5", func(r *gateway.Record) { r.Outcome = gateway.ClientLeft }),
		line("6", func(*gateway.Record) {}),
		amend("6", func(*gateway.Record) {}),
		line("7", refused),
		amend("7", refused),
		gateway.Line{Type: gateway.Amend, Record: gateway.Record{ID: "8", Outcome: gateway.NotDurable}}, // its end is lost
		gateway.Line{Type: gateway.Incomplete, Record: gateway.Record{
			ID: "9", Caller: gateway.Caller{Subscription: "alice"},
			Usage: gateway.Usage{Total: 5},
		}},
	))
	summary, err := s.Summarize(t.Context(), usage.Query{From: hour.From, To: hour.To, By: []string{"Subscription"}})
	if err != nil {
		t.Fatal(err)
	}
	got := usage.Counts{
		Requests: 7, Refused: 1, Errors: 4, Cancelled: 1, Incomplete: 1, Prompt: 45, Cached: 3, Completion: 5, Reasoning: 1, Total: 50,
		Estimated: 1, CostMillionths: 10, Answered: 1, Millis: 20, FirstByteMillis: 10, Failovers: 2,
	}
	if d := cmp.Diff(got, summary.Sum); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestReadSumsByRequestedKeys(t *testing.T) {
	store := table.NewMem()
	s := usage.New(store)
	add(t, s, file, parts(0, 2)[:3]) // a batch may come in portions
	add(t, s, file, parts(0, 2)[1:])
	for by, rows := range map[string]int{"subscription": 2, "product": 1, "user": 1, "model": 1, "region": 1} {
		found, err := s.Read(t.Context(), usage.Query{From: hour.From, To: hour.To, By: []string{by}})
		if err != nil || len(found) != rows {
			t.Errorf("by %s: %+v, %v", by, found, err)
		}
	}
	for what, q := range map[string]usage.Query{
		"unknown key": {From: hour.From, To: hour.To, By: []string{"colour"}},
		"backwards":   {From: hour.To, To: hour.From},
		"too long":    {From: hour.From, To: hour.From.AddDate(2, 0, 0)},
	} {
		if _, err := s.Read(t.Context(), q); gateway.KindOf(err) != gateway.BadRequest {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := s.Take(t.Context(), "bodies/x", parts(0, 1)); err == nil {
		t.Error("a name that is no journal file was counted")
	}
}

func TestHourFitsOneEntity(t *testing.T) {
	store := table.NewMem()
	s := usage.New(store)
	var lines []gateway.Line
	for i := range 20_000 {
		lines = append(lines, end(fmt.Sprint(i), fmt.Sprintf("subscription-%d", i), 10))
	}
	add(t, s, file, batch(0, lines...))
	if err := s.Close(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	if n := len(requests(t, store)); n != 20_000 {
		t.Errorf("%d rows", n)
	}
}

func TestStoreRefusesNewerEntity(t *testing.T) {
	store := table.NewMem()
	key := table.Key{Partition: "2026-11-23T20", Row: "f|aaaa-000000.jsonl.gz"}
	if _, err := store.Insert(t.Context(), table.Entity{Key: key, Props: map[string]any{"state": "open", "version": int64(2)}}); err != nil {
		t.Fatal(err)
	}
	err := usage.New(store).Take(t.Context(), file, parts(0, 1))
	if newer, ok := errors.AsType[*gateway.VersionError](err); !ok || newer.Found != 2 || newer.Known != 1 {
		t.Errorf("got %v, want a VersionError of 2", err)
	}
}
