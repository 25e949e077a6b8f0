package e2e_test

import (
	"strings"
	"sync"
	"testing"

	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal/journaltest"
	"aoaigateway/handler/tests/harness"
)

const productPolicy = `
version: 1
currency: USD
priceVersion: test
patterns:
  badge: '\bE-[0-9]{6}\b'
models:
  chat:
    contextWindow: 128000
    price: {input: 1.00, cachedInput: 0.50, output: 10.00}
    regions:
      b: {priority: 1}
      a: {priority: 2}
  emb: {contextWindow: 8192, price: {input: 1.00, output: 0}}
  modelname: {contextWindow: 4096, price: {input: 1.00, output: 1.00}}
products:
  default:
    models: ["*"]
  silent:
    models: ["*"]
    log: none
  discreet:
    models: ["*"]
    redact: [email, badge]
  one:
    models: ["*"]
    limits:
      - {name: one-at-a-time, concurrent: 1, hard: true}
  poor:
    models: [chat]
    maxOutputTokens: 10
    limits:
      - {name: budget, cost: 0.000300, per: month, hard: true}
`

func TestProductLogsMetadataOnly(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1, Policy: productPolicy})
	r.Key = r.Subscribe("silent", "silent")
	for _, body := range []string{harness.ChatBody, harness.ChatStream} {
		a := r.Post(harness.ChatPath, body)
		rec := r.RecordOf(a)
		if rec.Usage.Total == 0 || rec.Request.Size != int64(len(body)) || rec.Response.Size == 0 || rec.Response.SHA256 == "" {
			t.Errorf("figures are missing: %+v", rec)
		}
		content := func(b *gateway.Body) int {
			return len(b.JSON) + len(b.Text) + len(b.Base64) + len(b.Blob) + len(b.Assembled)
		}
		if q, p := rec.Request, rec.Response; content(q)+content(p) > 0 {
			t.Errorf("content was recorded: %+v %+v", q, p)
		}
	}
}

func TestRecordHasCost(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1, Policy: productPolicy})
	rec := r.RecordOf(r.Post(harness.ChatPath, harness.ChatBody))
	if rec.Cost == nil || rec.Cost.Currency != "USD" || rec.Cost.PriceVersion != "test" || rec.Cost.Millionths == 0 {
		t.Errorf("cost %+v of %+v", rec.Cost, rec.Usage)
	}
}

func TestCostLimitRefuses(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1, Policy: productPolicy})
	r.Key = r.Subscribe("poor", "poor")
	answered := 0
	for range 30 {
		a := r.Post(harness.ChatPath, harness.ChatBody)
		if a.Status == 403 {
			if answered == 0 || a.Event(t, "error", "limit") != "budget" {
				t.Errorf("after %d answers: %s", answered, a.Body)
			}
			return
		}
		answered++
	}
	t.Error("the budget never refused")
}

func TestConcurrencyLimit(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1, Policy: productPolicy})
	r.Key = r.Subscribe("one", "one")
	r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoHang})
	var first sync.WaitGroup
	var slow harness.Answer
	first.Go(func() { slow = r.Post(harness.ChatPath, harness.ChatBody) })
	waitFor(r, "the first to be asked", func() bool { return r.Regions[0].Counts().Open > 0 })
	if a := r.Post(harness.ChatPath, harness.ChatBody); a.Status != 429 || a.Event(t, "error", "limit") != "one-at-a-time" {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	r.Regions[0].ClearFaults()
	first.Wait()
	if slow.Status != 200 {
		t.Errorf("the first: %d %s", slow.Status, slow.Body)
	}
}

func TestPolicyReordersRegions(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 2, Policy: productPolicy})
	if rec := r.RecordOf(r.Post(harness.ChatPath, harness.ChatBody)); rec.Region != "b" {
		t.Errorf("chat was answered by %s", rec.Region)
	}
	if rec := r.RecordOf(r.Post("/openai/v1/embeddings", `{"model":"emb","input":"x"}`)); rec.Region != "a" {
		t.Errorf("emb was answered by %s", rec.Region)
	}
}

func TestRedactionLeavesTrafficAlone(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1, Policy: productPolicy})
	r.Key = r.Subscribe("discreet", "discreet")
	const secret = "bob@example.com, badge E-123456"
	for _, stream := range []string{"", `"stream":true,`} {
		body := `{` + stream + `"messages":[{"role":"user","content":"` + secret + `"}]}`
		a := r.Post(harness.ChatPath, body)
		rec := r.RecordOf(a)
		got := ""
		for _, line := range journaltest.Lines(t, r.Blobs) {
			if line.Type == gateway.Begin && line.ID == rec.ID {
				got = string(line.Request.JSON)
			}
		}
		if strings.Contains(got, "bob") || !strings.Contains(got, "[email], badge [badge]") || rec.Redactions != 2 {
			t.Errorf("recorded %s, %d redactions", got, rec.Redactions)
		}
		if rec.Request.SHA256 != sum([]byte(body)) || rec.Response.Assembled == nil && rec.Response.JSON == nil {
			t.Errorf("hash %s, response %+v", rec.Request.SHA256, rec.Response)
		}
	}
	for _, seen := range r.Regions[0].Exchanges() {
		if !strings.Contains(string(seen.Body), secret) {
			t.Errorf("the region was asked %s", seen.Body)
		}
	}
}
