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
	"time"

	"github.com/google/go-cmp/cmp"

	"aoaigateway/handler/audit"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/openai"
	"aoaigateway/handler/plan"
	"aoaigateway/handler/quota"
	"aoaigateway/handler/sse"
)

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

func TestSendErrorHidesUntypedErrors(t *testing.T) {
	for _, c := range []struct {
		err        error
		want, hide string
	}{
		{gateway.UpstreamBrokeOff.New("The region broke off."), `"code":"upstream_cut"`, "server_error\",\"message"},
		{errors.New("disk full"), `"code":"server_error"`, "disk"},
	} {
		rec := httptest.NewRecorder()
		d := &delivery{plan: &plan.Plan{Kind: openai.Chat}}
		d.sendError(sse.NewWriter(rec, time.Hour), c.err)
		if got := rec.Body.String(); !strings.Contains(got, c.want) || strings.Contains(got, c.hide) {
			t.Errorf("%v: %s", c.err, got)
		}
	}
}
