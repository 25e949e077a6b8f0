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
