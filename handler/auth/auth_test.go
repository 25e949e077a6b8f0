package auth_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aoaigateway/handler/auth"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/table"
)

type harness struct {
	store *table.Mem
	subs  *auth.Subscriptions
	auth  *auth.Authenticator
	sub   auth.Subscription
	keys  auth.Keys
}

func newHarness(t *testing.T) harness {
	t.Helper()
	store := table.NewMem()
	r := harness{store: store, subs: auth.NewSubscriptions(store)}
	r.auth = auth.New(r.subs, auth.Options{})
	var err error
	r.sub, r.keys, err = r.subs.Create(t.Context(), auth.Subscription{ID: "team-a", Product: "default"}, auth.Keys{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r harness) call(t *testing.T, headers ...string) (gateway.Caller, error) {
	t.Helper()
	target := "/openai/x"
	h := http.Header{}
	for _, kv := range headers {
		name, value, _ := strings.Cut(kv, "=")
		if name == "query" {
			target += "?" + value
			continue
		}
		h.Add(name, value)
	}
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, target, nil)
	req.Header = h
	return r.auth.Authenticate(req)
}

func reasonOf(err error) string {
	if e, ok := errors.AsType[*gateway.Error](err); ok {
		return e.Code
	}
	return ""
}

const jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln"

// Every place a key may stand.
func TestKeyPlaces(t *testing.T) {
	r := newHarness(t)
	k := r.keys.Primary
	for _, place := range [][]string{
		{"Ocp-Apim-Subscription-Key=" + k},
		{"Api-Key=" + k},
		{"Api-Key=" + r.keys.Secondary},
		{"Authorization=Bearer " + k},
		{"Authorization=bearer " + k},
		{"query=subscription-key=" + k},
		{"query=API-KEY=" + k},
		{"Api-Key=" + k, "Authorization=Bearer dummy"},
		{"Ocp-Apim-Subscription-Key=" + k, "Api-Key=dummy", "query=api-key=dummy"},
		{"Authorization=Bearer " + jwt, "Api-Key=" + k},
		{"Api-Key=", "Authorization=Bearer " + k},
	} {
		c, err := r.call(t, place...)
		if err != nil || c.Subscription != "team-a" || c.Product != "default" {
			t.Errorf("%v: %+v, %v", place, c, err)
		}
	}
}

// The first key present decides.
func TestFirstKeyDecides(t *testing.T) {
	r := newHarness(t)
	for _, c := range []struct {
		want  string
		place []string
	}{
		{"SubscriptionKeyNotFound", nil},
		{"SubscriptionKeyNotFound", []string{"Authorization=Basic eDp5"}},
		{"SubscriptionKeyInvalid", []string{"Api-Key=wrong"}},
		{"SubscriptionKeyInvalid", []string{"Ocp-Apim-Subscription-Key=wrong", "Api-Key=" + r.keys.Primary}},
		{"SubscriptionKeyInvalid", []string{"Api-Key=wrong", "Authorization=Bearer " + r.keys.Primary}},
		{"SubscriptionKeyInvalid", []string{"Authorization=Bearer wrong", "query=subscription-key=" + r.keys.Primary}},
		{"TokenNotAccepted", []string{"Authorization=Bearer " + jwt}},
	} {
		_, err := r.call(t, c.place...)
		if gateway.KindOf(err) != gateway.Unauthenticated || reasonOf(err) != c.want {
			t.Errorf("%v: %v (%s), want %s", c.place, err, reasonOf(err), c.want)
		}
	}
}

// A suspended subscription is refused and still named.
func TestSuspendedIsNamed(t *testing.T) {
	r := newHarness(t)
	if _, err := r.subs.SetState(t.Context(), "team-a", auth.Suspended); err != nil {
		t.Fatal(err)
	}
	c, err := r.call(t, "Api-Key="+r.keys.Primary)
	if reasonOf(err) != "SubscriptionKeyInvalid" || c.Subscription != "team-a" {
		t.Fatalf("%+v, %v", c, err)
	}
	if _, err := r.subs.SetState(t.Context(), "team-a", auth.Active); err != nil {
		t.Fatal(err)
	}
	r.auth.Forget()
	if _, err := r.call(t, "Api-Key="+r.keys.Primary); err != nil {
		t.Fatal(err)
	}
}

// Rotation replaces one key and leaves the other.
func TestRotateLeavesOtherKey(t *testing.T) {
	r := newHarness(t)
	_, fresh, err := r.subs.Rotate(t.Context(), "team-a", "primary")
	if err != nil || fresh.Primary == "" || fresh.Secondary != "" || fresh.Primary == r.keys.Primary {
		t.Fatalf("%+v, %v", fresh, err)
	}
	for key, works := range map[string]bool{r.keys.Primary: false, fresh.Primary: true, r.keys.Secondary: true} {
		if _, err := r.call(t, "Api-Key="+key); (err == nil) != works {
			t.Errorf("key %s…: %v, want working %t", key[:4], err, works)
		}
	}
}

// A process killed between any two writes leaves keys that work as before or as after.
func TestRotateBrokenOffAnywhere(t *testing.T) {
	for broken := range 5 {
		for _, applied := range []bool{false, true} {
			r := newHarness(t)
			n := 0
			r.store.SetFault(func(_ context.Context, op table.Op, _ table.Key) (bool, error) {
				if op == table.OpGet || op == table.OpScan {
					return true, nil
				}
				if n++; n > broken {
					return applied && n == broken+1, errors.New("killed")
				}
				return true, nil
			})
			_, fresh, err := r.subs.Rotate(t.Context(), "team-a", "primary")
			r.store.SetFault(nil)
			r.auth.Forget()
			_, oldErr := r.call(t, "Api-Key="+r.keys.Primary)
			if err == nil {
				if _, err := r.call(t, "Api-Key="+fresh.Primary); err != nil || oldErr == nil {
					t.Errorf("write %d: rotated, but new key: %v, old key: %v", broken, err, oldErr)
				}
			} else if !applied && oldErr != nil {
				t.Errorf("write %d: not rotated, old key: %v", broken, oldErr)
			}
			if _, err := r.call(t, "Api-Key="+r.keys.Secondary); err != nil {
				t.Errorf("write %d: the other key: %v", broken, err)
			}
		}
	}
}

// Good and bad keys are remembered for a minute.
func TestAuthenticatorRemembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newHarness(t)
		gets := 0
		r.store.SetFault(func(context.Context, table.Op, table.Key) (bool, error) { gets++; return true, nil })
		for range 10 {
			_, _ = r.call(t, "Api-Key="+r.keys.Primary)
			_, _ = r.call(t, "Api-Key=wrong")
		}
		if gets != 3 {
			t.Errorf("%d reads, want 2 for the good key and 1 for the bad one", gets)
		}
		time.Sleep(61 * time.Second)
		_, _ = r.call(t, "Api-Key="+r.keys.Primary)
		if gets != 5 {
			t.Errorf("%d reads after a minute", gets)
		}
	})
}

func TestAuthenticatorKeepsCallers(t *testing.T) {
	r := newHarness(t)
	r.auth = auth.New(r.subs, auth.Options{Size: 4})
	if _, err := r.call(t, "Api-Key="+r.keys.Primary); err != nil {
		t.Fatal(err)
	}
	for _, guess := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		_, _ = r.call(t, "Api-Key="+guess)
	}
	r.store.SetFault(func(context.Context, table.Op, table.Key) (bool, error) { return false, errors.New("away") })
	if _, err := r.call(t, "Api-Key="+r.keys.Primary); err != nil {
		t.Errorf("the caller was forgotten: %v", err)
	}
}

// A known key outlives its store for a while and a stranger does not.
func TestAuthenticatorWithoutStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newHarness(t)
		if _, err := r.call(t, "Api-Key="+r.keys.Primary); err != nil {
			t.Fatal(err)
		}
		r.store.SetFault(func(context.Context, table.Op, table.Key) (bool, error) { return false, errors.New("away") })
		time.Sleep(5 * time.Minute)
		if _, err := r.call(t, "Api-Key="+r.keys.Primary); err != nil {
			t.Error(err)
		}
		if _, err := r.call(t, "Api-Key=stranger"); gateway.KindOf(err) != gateway.Unavailable {
			t.Errorf("a stranger while storage is away: %v", err)
		}
		time.Sleep(6 * time.Minute)
		if _, err := r.call(t, "Api-Key="+r.keys.Primary); gateway.KindOf(err) != gateway.Unavailable {
			t.Errorf("after ten minutes: %v", err)
		}
	})
}

// Imported keys work and belong to one subscription.
func TestCreateImportsKeys(t *testing.T) {
	r := newHarness(t)
	imported := auth.Keys{Primary: "0123456789abcdef0123456789abcdef", Secondary: "fedcba9876543210fedcba9876543210"}
	if _, _, err := r.subs.Create(t.Context(), auth.Subscription{ID: "old-team", Product: "default"}, imported); err != nil {
		t.Fatal(err)
	}
	if c, err := r.call(t, "Api-Key="+imported.Primary); err != nil || c.Subscription != "old-team" {
		t.Fatalf("%+v, %v", c, err)
	}
	_, _, err := r.subs.Create(t.Context(), auth.Subscription{ID: "thief", Product: "default"}, auth.Keys{Primary: imported.Primary})
	if gateway.KindOf(err) != gateway.BadRequest {
		t.Fatalf("a second subscription with the same key: %v", err)
	}
	if c, _ := r.call(t, "Api-Key="+imported.Primary); c.Subscription != "old-team" {
		t.Fatalf("the key changed hands: %+v", c)
	}
}

// Bad ids, keys and states are refused.
func TestCreateRefusals(t *testing.T) {
	r := newHarness(t)
	for _, id := range []string{"team-a", "a/b", "../x", strings.Repeat("x", 81), "ü"} {
		if _, _, err := r.subs.Create(t.Context(), auth.Subscription{ID: id}, auth.Keys{}); gateway.KindOf(err) != gateway.BadRequest {
			t.Errorf("%q: %v", id, err)
		}
	}
	if _, _, err := r.subs.Create(t.Context(), auth.Subscription{}, auth.Keys{Primary: "short"}); gateway.KindOf(err) != gateway.BadRequest {
		t.Errorf("short key: %v", err)
	}
	if _, _, err := r.subs.Rotate(t.Context(), "team-a", "third"); gateway.KindOf(err) != gateway.BadRequest {
		t.Errorf("third key: %v", err)
	}
	if _, _, err := r.subs.Rotate(t.Context(), "nobody", "primary"); gateway.KindOf(err) != gateway.NotFound {
		t.Errorf("unknown subscription: %v", err)
	}
	if _, err := r.subs.SetState(t.Context(), "team-a", auth.Cancelled); err != nil {
		t.Fatal(err)
	}
	if _, err := r.subs.SetState(t.Context(), "team-a", auth.Active); gateway.KindOf(err) != gateway.BadRequest {
		t.Errorf("a cancelled subscription came back: %v", err)
	}
}

func TestNoKeyIsStored(t *testing.T) {
	r := newHarness(t)
	var all []any
	for _, p := range []string{"subscription"} {
		for e, err := range r.store.Scan(t.Context(), p) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, e.Key, e.Props)
		}
	}
	text, _ := json.Marshal(all)
	list, _ := r.subs.List(t.Context())
	shown, _ := json.Marshal(list)
	for _, key := range []string{r.keys.Primary, r.keys.Secondary} {
		if strings.Contains(string(text), key) || strings.Contains(string(shown), key) {
			t.Errorf("a key shows in %s or %s", text, shown)
		}
	}
}

// A row of a newer format is an error that names both versions, never a wrong caller.
func TestNewerRowIsRefused(t *testing.T) {
	r := newHarness(t)
	e, err := r.store.Get(t.Context(), table.Key{Partition: "subscription", Row: "team-a"})
	if err != nil {
		t.Fatal(err)
	}
	e.Props["v"] = int64(2)
	if _, err := r.store.Replace(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	_, err = r.subs.Get(t.Context(), "team-a")
	if err == nil || !strings.Contains(err.Error(), "has format version 2; this gateway reads version 1") {
		t.Errorf("Get: %v", err)
	}
	if c, err := r.call(t, "Api-Key="+r.keys.Primary); err == nil || gateway.KindOf(err) != gateway.Internal {
		t.Errorf("a call: %+v, %v", c, err)
	}
}
