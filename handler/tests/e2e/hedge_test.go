package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"aoaigateway/handler/body/bodytest"
	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/openai"
	"aoaigateway/handler/tests/harness"
)

const hedgePolicy = `
version: 1
models: {chat: {hedge: true, contextWindow: 4096}}
products:
  default:
    models: [chat]
    maxOutputTokens: 20
    limits:
      - {name: hard, tokens: %d, per: year, hard: true}
      - {name: soft, tokens: 1000000, per: year}
      - {name: calls, requests: 1000000, per: year}
      - {name: places, concurrent: 1, hard: true}
`

// usual sends requests until the latency window of the first region is filled.
func usual(r *harness.Gateway, body string, requests int) {
	r.T.Helper()
	for range requests {
		if rec := wantComplete(r, r.Post(harness.ChatPath, body)); rec.Region != "a" || len(rec.Attempts) != 1 {
			r.T.Fatalf("record %+v", rec)
		}
		time.Sleep(3 * time.Second) // so that leases have been given back and the counters are exact
	}
}

func attemptsOf(rec gateway.Record) string {
	var list []string
	for _, a := range rec.Attempts {
		list = append(list, a.Region+"/"+a.Reason)
	}
	return strings.Join(list, " ")
}

func TestHedgeIsCountedAndCharged(t *testing.T) {
	for _, body := range []string{harness.ChatBody, harness.ChatStream} {
		t.Run(body, func(t *testing.T) {
			inVirtualTimeUnder(t, fmt.Sprintf(hedgePolicy, 1_000_000), 2, func(t *testing.T, r *harness.Gateway, charges *ledger) {
				usual(r, body, 20)
				before := charges.read(t)
				r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoHang})
				defer r.Regions[0].ClearFaults()
				a, took := timed(r, body)
				rec := wantComplete(r, a)
				if rec.Region != "b" || attemptsOf(rec) != "a/hedge-lost b/" || took > time.Second || rec.Usage.Estimated {
					t.Errorf("after %v: %s, %+v", took, attemptsOf(rec), rec.Usage)
				}
				time.Sleep(5 * time.Second)
				bound, estimate := heldFor(t, body)
				got, used := charges.read(t), rec.Usage.Total
				want := charged{hard: before.hard + bound + used, soft: before.soft + estimate + used, calls: before.calls + 1}
				if got != want {
					t.Errorf("charged %+v, want %+v: the answer's usage, and the whole of what the loser held", got, want)
				}
				if n := r.Regions[0].Counts().Open; n != 0 {
					t.Errorf("%d requests are left with the loser", n)
				}
				health := string(r.Do("GET", "/manage/api/regions", "", "api-key="+harness.AdminKey).Body)
				if strings.Count(health, `"state":"open"`) != 2 {
					t.Errorf("regions %s", health)
				}
			})
		})
	}
}

// heldFor returns what one attempt holds in a hard limit (bound) and in a soft limit
// (estimate).
func heldFor(t *testing.T, text string) (bound, estimate int64) {
	t.Helper()
	req, err := openai.ParseRequest(openai.Chat, bodytest.Of([]byte(text)))
	if err != nil {
		t.Fatal(err)
	}
	req.MaxOutput = 20
	bound, ok := req.Bound(openai.Chat)
	if !ok {
		t.Fatal("no bound")
	}
	return bound, req.PromptEstimate() + 6 // 6 = the average output tokens of the answers so far
}

func TestHedgeNeedsRoomInLimit(t *testing.T) {
	bound, _ := heldFor(t, harness.ChatBody)
	inVirtualTimeUnder(t, fmt.Sprintf(hedgePolicy, 1_000_000), 1, func(t *testing.T, r *harness.Gateway, charges *ledger) {
		usual(r, harness.ChatBody, 1)
		bound += 20*charges.read(t).hard + bound/2 // enough for 20 answers, one more hold and half of a hedge's hold
	})
	inVirtualTimeUnder(t, fmt.Sprintf(hedgePolicy, bound), 2, func(t *testing.T, r *harness.Gateway, _ *ledger) {
		usual(r, harness.ChatBody, 20)
		r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoHang, Millis: 10_000})
		a, took := timed(r, harness.ChatBody)
		if rec := wantComplete(r, a); attemptsOf(rec) != "a/" || took != 10*time.Second {
			t.Errorf("after %v: %s", took, attemptsOf(rec))
		}
	})
}

func TestHedgeSparesStoredResponses(t *testing.T) {
	inVirtualTimeUnder(t, fmt.Sprintf(hedgePolicy, 1_000_000), 2, func(t *testing.T, r *harness.Gateway, _ *ledger) {
		for _, c := range []struct{ store, attempts string }{{"true", "a/"}, {"false", "a/hedge-lost b/"}} {
			body := `{"model":"chat","input":"hi","store":` + c.store + `}`
			for range 20 {
				wantComplete(r, r.Post("/openai/v1/responses", body))
			}
			r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoHang, Millis: 10_000})
			if rec := wantComplete(r, r.Post("/openai/v1/responses", body)); attemptsOf(rec) != c.attempts {
				t.Errorf("store %s: %s", c.store, attemptsOf(rec))
			}
			r.Regions[0].ClearFaults()
		}
	})
}

func TestHedgeNeedsPolicy(t *testing.T) {
	inVirtualTime(t, 2, func(t *testing.T, r *harness.Gateway) {
		usual(r, harness.ChatBody, 40)
		r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoHang, Millis: 50_000})
		a, took := timed(r, harness.ChatBody)
		if rec := wantComplete(r, a); attemptsOf(rec) != "a/" || took != 50*time.Second {
			t.Errorf("after %v: %s", took, attemptsOf(rec))
		}
	})
}
