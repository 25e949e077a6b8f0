package backend_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"aoaigateway/handler/backend"
	"aoaigateway/handler/deployment"
	"aoaigateway/handler/secret"
	"aoaigateway/handler/table"
)

// instance is one of several gateways over one table; its end is the test's duty, since a
// bubble must not be left with goroutines.
func instance(store table.Store, lines map[string][]reply) (*backend.Pool, *script) {
	s := &script{lines: lines}
	var regions []backend.Region
	for i, name := range []string{"a", "b"} {
		regions = append(regions, backend.Region{
			Name: name, Endpoint: &url.URL{Scheme: "https", Host: name}, Priority: i + 1, Weight: 1, Credential: "k",
			Models: map[string]string{"m": "m-" + name},
		})
	}
	return backend.New(backend.Options{Regions: regions, Transport: s, Secrets: secret.Map{"k": "1"}, Shared: store}), s
}

// closedFor reads from the table how much longer region a is closed.
func closedFor(t *testing.T, store table.Store) time.Duration {
	t.Helper()
	e, err := store.Get(t.Context(), table.Key{Partition: "regions", Row: "a|m-a"})
	text, _ := e.Props["closings"].(string)
	var list []deployment.Closing
	if err := errors.Join(err, json.Unmarshal([]byte(text), &list)); err != nil || len(list) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	return time.Until(list[0].Until).Round(time.Second)
}

func do(t *testing.T, p *backend.Pool) *testCall {
	t.Helper()
	c := call(false)
	a, err := ask(t.Context(), p, c)
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	return c
}

// An instance that is started in an outage does not ask the dead region.
func TestSharedStateAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := table.NewMem()
		lines := func() map[string][]reply { return map[string][]reply{"a": {failing(errRefused)}, "b": {good}} }
		first, _ := instance(store, lines())
		defer first.Close()
		if c := do(t, first); len(c.Attempts) != 2 {
			t.Fatalf("%+v", c.Attempts)
		}
		synctest.Wait()
		second, s := instance(store, lines())
		defer second.Close()
		start := time.Now()
		for range 20 {
			do(t, second)
		}
		if time.Since(start) != 0 || len(s.asked) != 20 || s.asked[0][0] != 'b' {
			t.Errorf("took %v, asked %v", time.Since(start), s.asked)
		}
	})
}

func TestSharedStateWithinSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := table.NewMem()
		first, _ := instance(store, map[string][]reply{"a": {status(429, ``, "Retry-After=30")}, "b": {good}})
		defer first.Close()
		second, s := instance(store, map[string][]reply{"a": {good}, "b": {good}})
		defer second.Close()
		do(t, second)
		do(t, first)
		time.Sleep(5100 * time.Millisecond)
		if do(t, second); s.asked[1][0] != 'b' {
			t.Errorf("asked %v", s.asked)
		}
		for _, h := range second.Health() {
			if h.Region == "a" && (h.State != "throttled" || h.WaitMillis < 24_000) {
				t.Errorf("health %+v", h)
			}
		}
		time.Sleep(25 * time.Second)
		if do(t, second); s.asked[2][0] != 'a' {
			t.Errorf("after the wait asked %v", s.asked)
		}
		time.Sleep(10 * time.Second)
		if do(t, second); s.asked[3][0] != 'a' {
			t.Errorf("what is over was learned again: asked %v", s.asked)
		}
	})
}

func TestSharedStateOnlyExtends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := table.NewMem()
		long, _ := instance(store, map[string][]reply{"a": {status(429, ``, "Retry-After=200")}, "b": {good}})
		defer long.Close()
		short, _ := instance(store, map[string][]reply{"a": {status(429, ``, "Retry-After=3")}, "b": {good}})
		defer short.Close()
		synctest.Wait()
		do(t, long)
		do(t, short)
		time.Sleep(time.Second)
		if left := closedFor(t, store); left != 199*time.Second {
			t.Errorf("closed for %v more", left)
		}
		time.Sleep(5 * time.Second)
		for _, h := range short.Health() {
			if h.Region == "a" && h.WaitMillis < 190_000 {
				t.Errorf("the other's longer wait was not taken over: %+v", h)
			}
		}
	})
}

func TestSharedStateWithoutTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := table.NewMem()
		away := func(ctx context.Context, _ table.Op, _ table.Key) (bool, error) {
			<-ctx.Done()
			return false, errors.New("storage is away")
		}
		store.SetFault(away)
		p, s := instance(store, map[string][]reply{"a": {status(429, ``, "Retry-After=60")}, "b": {good}})
		defer p.Close()
		start := time.Now()
		do(t, p)
		if waited := time.Since(start); waited != 200*time.Millisecond {
			t.Errorf("the first pick waited %v", waited)
		}
		start = time.Now()
		do(t, p)
		if time.Since(start) != 0 || len(s.asked) != 3 || s.asked[2][0] != 'b' {
			t.Errorf("took %v, asked %v", time.Since(start), s.asked)
		}
		time.Sleep(20 * time.Second)
		store.SetFault(nil)
		time.Sleep(10 * time.Second)
		if _, err := store.Get(t.Context(), table.Key{Partition: "regions", Row: "a|m-a"}); err != nil {
			t.Errorf("not written once storage was back: %v", err)
		}
	})
}

func TestSharedStateRepeatsWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := table.NewMem()
		lost := 0
		store.SetFault(func(_ context.Context, op table.Op, _ table.Key) (bool, error) {
			if op == table.OpInsert || op == table.OpReplace {
				if lost++; lost <= 2 {
					return true, errors.New("answer lost")
				}
			}
			return true, nil
		})
		p, _ := instance(store, map[string][]reply{"a": {status(429, ``, "Retry-After=60")}, "b": {good}})
		defer p.Close()
		do(t, p)
		time.Sleep(20 * time.Second)
		if left := closedFor(t, store); left != 40*time.Second {
			t.Errorf("closed for %v more", left)
		}
	})
}
