package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"aoaigateway/handler/audit"
	"aoaigateway/handler/backend"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/openai"
	"aoaigateway/handler/quota"
)

func TestErrorEventForms(t *testing.T) {
	err := gateway.UpstreamBrokeOff.New("The region broke off.")
	for kind, want := range map[openai.Kind]string{
		openai.Chat: `data: {"error":{"code":"upstream_cut","message":"The region broke off.","param":null,"type":"server_error"}}` + "\n\n",
		openai.Responses: "event: error\n" +
			`data: {"code":"upstream_cut","message":"The region broke off.","param":null,"type":"error"}` + "\n\n",
	} {
		if got := string(errorEvent(kind, err)); got != want {
			t.Errorf("%s: %s", kind, got)
		}
	}
	if got := string(errorEvent(openai.Chat, errors.New("disk full"))); strings.Contains(got, "disk") ||
		!strings.Contains(got, "server_error") {
		t.Errorf("an error that is not for clients: %s", got)
	}
}

func TestCopyDownstream(t *testing.T) {
	r := httptest.NewRequest("GET", "http://localhost/openai/v1/files", nil)
	r.Header.Set("X-Forwarded-Host", "ai.example.com")
	from := http.Header{
		"Content-Type": {"application/json"}, "X-Ratelimit-Remaining-Tokens": {"5"}, "Apim-Request-Id": {"id"},
		"Set-Cookie": {"s"}, "Transfer-Encoding": {
			"chunked",
		}, "Content-Length": {"9"}, "Strict-Transport-Security": {"x"}, "X-Gateway-Pinned": {"x"},
		"Location": {"https://region.example/openai/v1/files/1"}, "Operation-Location": {"/openai/operations/1"}, "Content-Location": {"%zz"},
	}
	want := http.Header{
		"Content-Type": {"application/json"}, "X-Ratelimit-Remaining-Tokens": {"5"}, "Apim-Request-Id": {"id"},
		"Location": {"https://ai.example.com/openai/v1/files/1"}, "Operation-Location": {"/openai/operations/1"}, "Content-Location": {""},
	}
	got := http.Header{}
	copyDownstream(got, from, r)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestSetLimitHeaders(t *testing.T) {
	h := http.Header{}
	setLimitHeaders(h, quota.Remaining{Tokens: quota.Left{Limit: "t", Left: 7}, Quota: quota.Left{Limit: "q", Left: -3}})
	want := http.Header{"X-Gateway-Remaining-Tokens": {"7"}, "X-Gateway-Remaining-Quota-Tokens": {"0"}}
	if d := cmp.Diff(want, h); d != "" {
		t.Error(d)
	}
}

func TestReadBody(t *testing.T) {
	const limit = 10
	stopped := gateway.BodyBroken.New("The request body stopped for 1s.")
	for name, c := range map[string]struct {
		body      io.Reader
		announced int64
		want      string
		kind      gateway.Kind
	}{
		"announced":             {strings.NewReader("0123456789"), 10, "0123456789", 0},
		"chunked":               {strings.NewReader("0123456789"), -1, "0123456789", 0},
		"none":                  {strings.NewReader(""), 0, "", 0},
		"announced too long":    {iotest.ErrReader(errors.New("was read")), 11, "", gateway.TooLarge},
		"chunked and too long":  {strings.NewReader("0123456789a"), -1, "", gateway.TooLarge},
		"ended early":           {io.MultiReader(strings.NewReader("01"), iotest.ErrReader(io.ErrUnexpectedEOF)), 10, "", gateway.BodyIncomplete},
		"stopped by front's":    {iotest.ErrReader(stopped), 10, "", gateway.BodyIncomplete},
		"one byte at each read": {iotest.OneByteReader(strings.NewReader("0123")), 4, "0123", 0},
	} {
		r := httptest.NewRequest("POST", "/", c.body)
		r.ContentLength = c.announced
		got, err := readBody(r, limit)
		if string(got) != c.want || (err == nil) != (c.kind == 0) || err != nil && gateway.KindOf(err) != c.kind {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if name == "stopped by front's" && !errors.Is(err, stopped) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReadAllAllocatesLittle(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 3<<20)
	for _, announced := range []int64{-1, int64(len(long))} {
		got, err := readAll(bytes.NewReader(long), announced)
		if err != nil || !bytes.Equal(got, long) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		if announced > 0 && int64(cap(got)) > announced+64<<10 {
			t.Errorf("a buffer of %d for %d announced bytes", cap(got), announced)
		}
	}
	if got, err := readAll(strings.NewReader("x"), 1<<40); err != nil || cap(got) > 2<<20 {
		t.Errorf("a buffer of %d for one byte, %v", cap(got), err)
	}
}

func TestCopyHoldingKeepsTail(t *testing.T) {
	body := strings.Repeat("0123456789", 30_000)
	for name, c := range map[string]struct {
		src  io.Reader
		err  error
		held int
	}{
		"whole":         {strings.NewReader(body), nil, tail},
		"short":         {strings.NewReader("0123"), nil, 4},
		"region breaks": {io.MultiReader(strings.NewReader(body), iotest.ErrReader(io.ErrUnexpectedEOF)), io.ErrUnexpectedEOF, 0},
	} {
		rec := &gateway.Record{}
		capture := audit.New(audit.Options{}).Exchange(rec).Response("text/plain")
		var sent bytes.Buffer
		held, err := copyHolding(&sent, capture, c.src)
		if !errors.Is(err, c.err) || len(held) != c.held {
			t.Errorf("%s: held %d, %v", name, len(held), err)
		}
		if all := sent.String() + string(held); err == nil && all != body && all != "0123" {
			t.Errorf("%s: %d bytes sent and %d held are not the body", name, sent.Len(), len(held))
		}
	}
	capture := audit.New(audit.Options{}).Exchange(&gateway.Record{}).Response("text/plain")
	if _, err := copyHolding(brokenPipe{}, capture, strings.NewReader(body)); !errors.Is(err, errClientWrite) {
		t.Errorf("a client that takes nothing: %v", err)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestLastUsage(t *testing.T) {
	var m meter
	m.read(lastUsage([]byte(`…"usage":1}],"usage":{"prompt_tokens":2,"completion_tokens":3,"total_tokens":5}}`)))
	if !m.known || m.usage.Total != 5 {
		t.Errorf("%+v", m)
	}
	if lastUsage([]byte(`{"data":[]}`)) != nil {
		t.Error("found usage where there is none")
	}
}

func TestMeterEstimatesMissingUsage(t *testing.T) {
	request := []byte(`{"messages":[{"role":"user","content":"hello world"}]}`)
	answer := &backend.Answer{Status: 200, Whole: []byte(`{"model":"gpt-4o","choices":[{"message":{"content":"hello world"}}]}`)}
	m := meter{kind: openai.Chat, model: "chat"}
	m.readWhole(answer)
	m.estimatePrompt(request)
	if u := m.usage; m.known || !u.Estimated || u.Completion != 2 || u.Prompt < 2 || u.Total != u.Prompt+u.Completion ||
		m.answered != "gpt-4o" {
		t.Errorf("%+v", m)
	}
	reported := *answer
	reported.Whole = []byte(`{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":0,"total_tokens":7}}`)
	m = meter{kind: openai.Chat, model: "chat"}
	m.readWhole(&reported)
	m.estimatePrompt(request)
	if m.usage.Estimated || m.usage.Total != 7 {
		t.Errorf("usage of the service's own: %+v", m.usage)
	}
	refused := *answer
	refused.Status = 400
	m = meter{kind: openai.Chat}
	if m.readWhole(&refused); m.usage != (gateway.Usage{}) {
		t.Errorf("an error answer used %+v", m.usage)
	}
}
