// Package tabletest checks that stores behave as table.Store says.
package tabletest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"aoaigateway/handler/table"
)

// Run tests the stores that newStore returns. Each test gets its own store with an empty
// table.
func Run(t *testing.T, newStore func(t *testing.T) table.Store) {
	for name, test := range map[string]func(*testing.T, table.Store){
		"every type comes back as it was stored":       types,
		"keys with awkward characters are found again": awkwardKeys,
		"insert of a taken key says exists":            insertTaken,
		"replace needs the current revision":           replace,
		"replace drops properties it does not name":    replaceDrops,
		"swap replaces all or none":                    swap,
		"delete needs the current revision":            remove,
		"the zero revision matches nothing":            zeroRev,
		"a revision dies with its entity":              reborn,
		"scan yields one partition in row order":       scan,
		"scan goes beyond one page":                    scanPages,
		"what Table Storage refuses is refused":        refused,
		"what just fits is stored":                     fits,
		"concurrent swaps lose no update":              concurrent,
		"a cancelled context is an error":              cancelled,
		"the clock offset is small on one machine":     offset,
	} {
		t.Run(name, func(t *testing.T) { test(t, newStore(t)) })
	}
}

var key = table.Key{Partition: "p", Row: "r"}

func props(n int64) map[string]any { return map[string]any{"n": n} }

func insert(t *testing.T, s table.Store, e table.Entity) table.Entity {
	t.Helper()
	got, err := s.Insert(t.Context(), e)
	if err != nil {
		t.Fatalf("Insert(%v): %v", e.Key, err)
	}
	return got
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: error %v, want %v", what, got, want)
	}
}

func wantProps(t *testing.T, s table.Store, k table.Key, want map[string]any) table.Entity {
	t.Helper()
	got, err := s.Get(t.Context(), k)
	if err != nil {
		t.Fatalf("Get(%v): %v", k, err)
	}
	if got.Key != k {
		t.Errorf("Get(%v) returned key %v", k, got.Key)
	}
	if diff := cmp.Diff(want, got.Props); diff != "" {
		t.Errorf("Get(%v): properties (-want +got):\n%s", k, diff)
	}
	return got
}

func types(t *testing.T, s table.Store) {
	at := time.Date(2028, 2, 29, 23, 59, 59, 123456700, time.UTC)
	in := map[string]any{
		"s": "line\nquote ' \" <&> € 😀", "empty": "", "b": true, "no": false,
		"i": int64(1)<<62 + 1, "neg": int64(-1), "zero": int64(0),
		"f": 0.1, "whole": float64(3), "big": 1e300, "fzero": float64(0),
		"bytes": []byte{0, 255, 10}, "nobytes": []byte{},
		"t": at, "local": at.In(time.FixedZone("x", 3600)).Add(7), "second": at.Truncate(time.Second),
		"looksLikeInt": "12", "looksLikeTime": "2028-02-29T00:00:00Z",
	}
	want := maps.Clone(in)
	want["local"] = at
	got := insert(t, s, table.Entity{Key: key, Props: in})
	if diff := cmp.Diff(want, got.Props); diff != "" {
		t.Errorf("Insert's result (-want +got):\n%s", diff)
	}
	in["bytes"].([]byte)[0] = 9
	want["bytes"] = []byte{0, 255, 10}
	wantProps(t, s, key, want)
}

func awkwardKeys(t *testing.T, s table.Store) {
	names := []string{
		"it's", "''", "a b", "a%2Fb", "100%", "a+b", "ü€😀", "a:b|c,d;e=f&g", "(x)", "\"q\"", "..", "$", "<x>", "[::1]",
		strings.Repeat("k", 512),
	}
	for i, name := range names {
		for _, k := range []table.Key{{Partition: name, Row: "r"}, {Partition: "p", Row: name}} {
			e := insert(t, s, table.Entity{Key: k, Props: props(int64(i))})
			wantProps(t, s, k, props(int64(i)))
			e.Props = props(-1)
			e, err := s.Replace(t.Context(), e)
			if err != nil {
				t.Fatalf("Replace(%q): %v", k, err)
			}
			wantProps(t, s, k, props(-1))
			if found := len(rows(t, s, k.Partition)); found == 0 {
				t.Errorf("Scan(%q) found nothing", k.Partition)
			}
			if err := s.Delete(t.Context(), e); err != nil {
				t.Fatalf("Delete(%q): %v", k, err)
			}
		}
	}
	noRow := table.Key{Partition: "p"}
	insert(t, s, table.Entity{Key: noRow, Props: props(1)})
	wantProps(t, s, noRow, props(1))
}

func insertTaken(t *testing.T, s table.Store) {
	insert(t, s, table.Entity{Key: key, Props: props(1)})
	_, err := s.Insert(t.Context(), table.Entity{Key: key, Props: props(2)})
	wantErr(t, "second Insert", err, table.ErrExists)
	wantProps(t, s, key, props(1))
}

func replace(t *testing.T, s table.Store) {
	_, err := s.Get(t.Context(), key)
	wantErr(t, "Get of nothing", err, table.ErrNotFound)
	first := insert(t, s, table.Entity{Key: key, Props: props(1)})
	read := wantProps(t, s, key, props(1))
	if read.Rev != first.Rev {
		t.Errorf("Get's revision differs from Insert's")
	}
	second := first
	second.Props = props(2)
	second, err = s.Replace(t.Context(), second)
	if err != nil {
		t.Fatal(err)
	}
	first.Props = props(3)
	_, err = s.Replace(t.Context(), first)
	wantErr(t, "Replace with an old revision", err, table.ErrConflict)
	second.Props = props(4)
	if _, err = s.Replace(t.Context(), second); err != nil {
		t.Errorf("Replace failed with the revision that an earlier Replace returned: %v", err)
	}
	wantProps(t, s, key, props(4))
	first.Row = "none"
	_, err = s.Replace(t.Context(), first)
	wantErr(t, "Replace of nothing", err, table.ErrNotFound)
}

func replaceDrops(t *testing.T, s table.Store) {
	e := insert(t, s, table.Entity{Key: key, Props: map[string]any{"a": "x", "b": "y"}})
	e.Props = map[string]any{"b": "z"}
	if _, err := s.Replace(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	wantProps(t, s, key, map[string]any{"b": "z"})
}

func swap(t *testing.T, s table.Store) {
	a := insert(t, s, table.Entity{Key: table.Key{Partition: "p", Row: "a"}, Props: props(1)})
	b := insert(t, s, table.Entity{Key: table.Key{Partition: "p", Row: "b"}, Props: props(1)})
	a.Props, b.Props = props(2), props(3)
	if err := s.Swap(t.Context(), []table.Entity{a, b}); err != nil {
		t.Fatalf("Swap: %v", err)
	}
	wantProps(t, s, a.Key, props(2))
	fresh := wantProps(t, s, b.Key, props(3))
	fresh.Props = props(4)
	wantErr(t, "Swap with one old revision", s.Swap(t.Context(), []table.Entity{fresh, a}), table.ErrConflict)
	gone := table.Entity{Key: table.Key{Partition: "p", Row: "gone"}, Rev: fresh.Rev, Props: props(1)}
	wantErr(t, "Swap with one that is absent", s.Swap(t.Context(), []table.Entity{fresh, gone}), table.ErrNotFound)
	wantProps(t, s, b.Key, props(3))
	for what, list := range map[string][]table.Entity{
		"nothing": {}, "two partitions": {fresh, {Key: table.Key{Partition: "q", Row: "a"}, Rev: a.Rev, Props: props(1)}},
		"one twice": {fresh, fresh}, "too many": make([]table.Entity, 101),
	} {
		if err := s.Swap(t.Context(), list); err == nil {
			t.Errorf("Swap of %s succeeded", what)
		}
	}
	wantProps(t, s, b.Key, props(3))
}

func remove(t *testing.T, s table.Store) {
	old := insert(t, s, table.Entity{Key: key, Props: props(1)})
	now, err := s.Replace(t.Context(), old)
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, "Delete with an old revision", s.Delete(t.Context(), old), table.ErrConflict)
	wantErr(t, "Delete", s.Delete(t.Context(), now), nil)
	wantErr(t, "Delete of nothing", s.Delete(t.Context(), now), table.ErrNotFound)
	_, err = s.Get(t.Context(), key)
	wantErr(t, "Get after Delete", err, table.ErrNotFound)
}

func zeroRev(t *testing.T, s table.Store) {
	e := table.Entity{Key: key, Props: props(2)}
	_, err := s.Replace(t.Context(), e)
	wantErr(t, "Replace of nothing", err, table.ErrNotFound)
	wantErr(t, "Delete of nothing", s.Delete(t.Context(), e), table.ErrNotFound)
	insert(t, s, table.Entity{Key: key, Props: props(1)})
	_, err = s.Replace(t.Context(), e)
	wantErr(t, "Replace", err, table.ErrConflict)
	wantErr(t, "Delete", s.Delete(t.Context(), e), table.ErrConflict)
	wantProps(t, s, key, props(1))
}

func reborn(t *testing.T, s table.Store) {
	old := insert(t, s, table.Entity{Key: key, Props: props(1)})
	if err := s.Delete(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	insert(t, s, table.Entity{Key: key, Props: props(1)})
	_, err := s.Replace(t.Context(), old)
	wantErr(t, "Replace with the revision of the first life", err, table.ErrConflict)
}

func rows(t *testing.T, s table.Store, partition string) (found []string) {
	t.Helper()
	for e, err := range s.Scan(t.Context(), partition) {
		if err != nil {
			t.Fatalf("Scan(%q): %v", partition, err)
		}
		found = append(found, e.Row)
	}
	return found
}

func scan(t *testing.T, s table.Store) {
	for _, row := range []string{"b", "a", "C", "10", "9", ""} {
		insert(t, s, table.Entity{Key: table.Key{Partition: "p", Row: row}, Props: props(1)})
	}
	insert(t, s, table.Entity{Key: table.Key{Partition: "p2", Row: "x"}, Props: props(1)})
	if diff := cmp.Diff([]string{"", "10", "9", "C", "a", "b"}, rows(t, s, "p")); diff != "" {
		t.Errorf("Scan (-want +got):\n%s", diff)
	}
	if found := rows(t, s, "none"); len(found) != 0 {
		t.Errorf("Scan of an empty partition: %v", found)
	}
	for e, err := range s.Scan(t.Context(), "p") {
		if err != nil {
			t.Fatal(err)
		}
		e.Props = props(2)
		if _, err := s.Replace(t.Context(), e); err != nil {
			t.Errorf("Replace with Scan's revision: %v", err)
		}
		break
	}
}

func scanPages(t *testing.T, s table.Store) {
	const n = 1005 // a page holds 1,000
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := next.Add(1); i <= n; i = next.Add(1) {
				k := table.Key{Partition: "p", Row: fmt.Sprintf("%05d", i)}
				if _, err := s.Insert(t.Context(), table.Entity{Key: k}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	found := rows(t, s, "p")
	if len(found) != n || found[0] != "00001" || found[n-1] != "01005" {
		t.Errorf("Scan found %d rows, want %d", len(found), n)
	}
}

func many(n int, value any) map[string]any {
	out := map[string]any{}
	for i := range n {
		out[fmt.Sprintf("p%d", i)] = value
	}
	return out
}

func refused(t *testing.T, s table.Store) {
	for name, e := range map[string]table.Entity{
		"slash in row":        {Key: table.Key{Partition: "p", Row: "a/b"}},
		"backslash":           {Key: table.Key{Partition: `a\b`}},
		"hash":                {Key: table.Key{Partition: "p", Row: "#"}},
		"question mark":       {Key: table.Key{Partition: "?"}},
		"control character":   {Key: table.Key{Partition: "p", Row: "a\tb"}},
		"C1 control":          {Key: table.Key{Partition: "p", Row: "a\u0085b"}},
		"broken UTF-8 in key": {Key: table.Key{Partition: "p", Row: "\xff"}},
		"empty partition":     {Key: table.Key{Row: "r"}},
		"long key":            {Key: table.Key{Partition: "p", Row: strings.Repeat("k", 513)}},
		"long key in UTF-16":  {Key: table.Key{Partition: "p", Row: strings.Repeat("😀", 257)}},
		"253 properties":      {Key: key, Props: many(253, true)},
		"long string":         {Key: key, Props: map[string]any{"s": strings.Repeat("x", 32769)}},
		"long bytes":          {Key: key, Props: map[string]any{"b": make([]byte, 65537)}},
		"over 1 MiB":          {Key: key, Props: many(16, make([]byte, 65536))},
		"int":                 {Key: key, Props: map[string]any{"n": 1}},
		"nil":                 {Key: key, Props: map[string]any{"n": nil}},
		"broken UTF-8":        {Key: key, Props: map[string]any{"s": "\xff"}},
		"service's own name":  {Key: key, Props: map[string]any{"Timestamp": "x"}},
		"name with a dash":    {Key: key, Props: map[string]any{"a-b": "x"}},
		"name with a digit":   {Key: key, Props: map[string]any{"1a": "x"}},
		"empty name":          {Key: key, Props: map[string]any{"": "x"}},
		"zero time":           {Key: key, Props: map[string]any{"t": time.Time{}}},
	} {
		if _, err := s.Insert(t.Context(), e); err == nil || errors.Is(err, table.ErrExists) {
			t.Errorf("%s: Insert: %v, want a refusal", name, err)
		}
		if _, err := s.Replace(t.Context(), e); err == nil || errors.Is(err, table.ErrNotFound) {
			t.Errorf("%s: Replace: %v, want a refusal", name, err)
		}
	}
	if found := rows(t, s, "p"); len(found) != 0 {
		t.Errorf("stored all the same: %q", found)
	}
}

func fits(t *testing.T, s table.Store) {
	for name, in := range map[string]map[string]any{
		"none":         {},
		"count":        many(252, true),
		"string":       {"s": strings.Repeat("x", 32768)},
		"bytes":        {"b": make([]byte, 65536)},
		"nearly a MiB": many(15, make([]byte, 65536)),
	} {
		k := table.Key{Partition: "p", Row: name}
		insert(t, s, table.Entity{Key: k, Props: in})
		wantProps(t, s, k, in)
	}
}

func concurrent(t *testing.T, s table.Store) {
	insert(t, s, table.Entity{Key: key, Props: props(0)})
	const writers, each = 8, 20
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				if err := increment(t.Context(), s); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	wantProps(t, s, key, props(writers*each))
}

func increment(ctx context.Context, s table.Store) error {
	for {
		e, err := s.Get(ctx, key)
		if err != nil {
			return err
		}
		e.Props["n"] = e.Props["n"].(int64) + 1
		if _, err = s.Replace(ctx, e); !errors.Is(err, table.ErrConflict) {
			return err
		}
	}
}

func cancelled(t *testing.T, s table.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Get(ctx, key)
	wantErr(t, "Get", err, context.Canceled)
	_, err = s.Insert(ctx, table.Entity{Key: key, Props: props(1)})
	wantErr(t, "Insert", err, context.Canceled)
	for _, err := range s.Scan(ctx, "p") {
		wantErr(t, "Scan", err, context.Canceled)
	}
}

func offset(t *testing.T, s table.Store) {
	insert(t, s, table.Entity{Key: key, Props: props(1)})
	if d := s.Offset().Abs(); d > 5*time.Second {
		t.Errorf("Offset %v", d)
	}
}
