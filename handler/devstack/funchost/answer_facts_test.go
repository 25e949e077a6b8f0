//go:build unix

package funchost_test

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"aoaigateway/handler/devstack/funchost"
)

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"

// answerFacts: what the handler sends; what the caller gets.
var answerFacts = []fact{
	{row: 0, sent: "any answer", got: "Server and Date unless the handler set them; never a Content-Type", check: func(t *testing.T, s *site) {
		passes(ok+"\r\n<p", "", 200, "<p", [2]string{"Server", "Kestrel"}, [2]string{"Content-Type"})(t, s)
		if r := s.send(t, raw(ok+"\r\nok", "")); r.header.Get("Date") == "" {
			t.Error(r)
		}
		passes(ok+"Server: worker\r\nDate: Tue, 01 Jan 2030 00:00:00 GMT\r\n\r\nok", "", 200, "ok", [2]string{"Server", "worker"},
			[2]string{"Date", "Tue, 01 Jan 2030 00:00:00 GMT"})(t, s)
	}},
	{row: 1, sent: "103 or 100 first", got: "dropped", check: all(
		passes("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"+ok+"\r\nok", "", 200, "ok", [2]string{"Link"}),
		passes("HTTP/1.1 100 Continue\r\n\r\n"+ok+"\r\nok", "", 200, "ok"))},
	{row: 2, hidden: true, sent: "trailers", got: "the header passes, the trailer is dropped", check: passes(
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n2\r\nok\r\n0\r\nX-T: v\r\n\r\n", "", 200, "ok",
		[2]string{"Trailer", "X-T"}, [2]string{"X-T"})},
	{row: 3, sent: "no length", got: "chunked, complete", check: func(t *testing.T, s *site) {
		if r := s.send(t, raw("HTTP/1.1 200 OK\r\n\r\nuntil close", "fin")); r.status != 200 || r.body != "until close" || r.length != -1 ||
			r.err != nil || r.header.Get("Connection") == "close" {
			t.Error(r)
		}
	}},
	{row: 4, sent: "hop-by-hop headers", got: "dropped; what Connection names stays", check: passes(
		ok+"Connection: X-Foo\r\nX-Foo: f\r\nKeep-Alive: timeout=5\r\nStrict-Transport-Security: a\r\nAlt-Svc: h2\r\nUpgrade: foo\r\nTE: x\r\n"+
			"X-Powered-By: w\r\nVia: 1.1 w\r\nWarning: w\r\n\r\nok", "", 200, "ok", [2]string{"X-Foo", "f"}, [2]string{"Connection"},
		[2]string{"Keep-Alive"}, [2]string{"Strict-Transport-Security"}, [2]string{"Alt-Svc"}, [2]string{"Upgrade"}, [2]string{"Te"},
		[2]string{"X-Powered-By", "w"}, [2]string{"Via", "1.1 w"}, [2]string{"Warning", "w"})},
	{row: 5, hidden: true, sent: "204 with a length, 101", got: "500 without a body", check: all(
		isEmpty(raw("HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", "fin"), 500, false),
		isEmpty(raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", ""), 500, false),
		passes("HTTP/1.1 204 No Content\r\n\r\n", "", 204, ""))},
	{row: 6, hidden: true, sent: "304 with a length", got: "passes with it", check: passes(
		"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 9\r\n\r\n", "", 304, "", [2]string{"Content-Length", "9"})},
	{row: 7, hidden: true, sent: "a header outside ASCII", got: "500 without a body", check: all(
		isEmpty(raw(ok+"X-U8: Mü\r\n\r\nok", ""), 500, false), isEmpty(raw(ok+"X-Lat: M\xfc\r\n\r\nok", ""), 500, false))},
	{row: 8, hidden: true, sent: "odd statuses", got: "pass with the reason", check: func(t *testing.T, s *site) {
		for _, line := range []string{"599 Odd Reason", "999 Odd", "200 Fine Indeed"} {
			r := s.send(t, raw("HTTP/1.1 "+line+"\r\nContent-Length: 2\r\n\r\nok", ""))
			if !strings.HasPrefix(line, strconv.Itoa(r.status)) || !strings.HasSuffix(line, r.reason) || r.reason == "" || r.body != "ok" {
				t.Errorf("%s: %v", line, r)
			}
		}
	}},
	{row: 9, sent: "headers and no body", got: "500 without a body", check: isEmpty(
		raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "fin"), 500, false)},
	{row: 10, hidden: true, sent: "an answer that breaks off", got: "the connection is reset", check: func(t *testing.T, s *site) {
		for _, answer := range []string{
			"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		} {
			for _, ending := range []string{"fin", "rst"} {
				if r := s.send(t, raw(answer, ending)); !errors.Is(r.err, syscall.ECONNRESET) {
					t.Errorf("%q, %s: %v", answer, ending, r)
				}
			}
		}
	}},
	{row: 11, sent: "nothing", got: "500 without a body after 1.9 to 2.2 s", check: func(t *testing.T, s *site) {
		for answer, ending := range map[string]string{"": "fin", " ": "rst", "garbage\r\n\r\n": "fin"} {
			r := s.send(t, raw(strings.TrimSpace(answer), ending))
			if !r.empty(500) || r.took < 1800*time.Millisecond || r.took > 10*time.Second {
				t.Errorf("%q, %s: %v", answer, ending, r)
			}
		}
	}},
	{row: 12, hidden: true, sent: "an answer before the body was read", got: "arrives, if the body is small", check: early},
	{row: 12, sent: "the same with Expect", got: "it arrives", check: func(t *testing.T, s *site) {
		if r := s.send(t, post("/openai/a?do=slam", strings.Repeat("x", 20<<20), "Expect: 100-continue")); r.status != 413 || r.body != "early" {
			t.Error(r)
		}
	}},
	{row: 13, sent: "silence", got: "500 without a body, or a reset once begun; after 240 s", check: func(t *testing.T, _ *site) {
		silent := start(t, funchost.Options{Idle: time.Second})
		isEmpty(get("/openai/a?do=hang"), 500, false)(t, silent)
		if r := silent.send(t, raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", "")); !errors.Is(r.err, syscall.ECONNRESET) {
			t.Error(r)
		}
		if r := silent.send(t, get("/openai/a?do=stream&n=8&ms=200")); r.err != nil || len(r.body) != 72 {
			t.Error(r)
		}
	}},
}

// passes expects the answer to come through with these values, and nothing for an empty one.
func passes(answer, ending string, status int, body string, want ...[2]string) func(*testing.T, *site) {
	return func(t *testing.T, s *site) {
		r := s.send(t, raw(answer, ending))
		if r.status != status || r.body != body || r.err != nil {
			t.Errorf("want %d %q, got %v", status, body, r)
		}
		for _, w := range want {
			if got := r.header.Get(w[0]); got != w[1] {
				t.Errorf("%s: %q, want %q", w[0], got, w[1])
			}
		}
	}
}

func early(t *testing.T, s *site) {
	large := strings.Repeat("x", 20<<20)
	if r := s.send(t, post("/openai/a?do=slam", "hello")); r.status != 413 || r.body != "early" {
		t.Errorf("a small body: %v", r)
	}
	if r := s.send(t, post("/openai/a?do=slam", large)); !r.empty(500) {
		t.Errorf("a large body: %v", r)
	}
	if r := s.send(t, post("/openai/a?do=early", large)); r.status != 413 || r.body != "early" { // the handler reads on
		t.Errorf("a large body that is read after the answer: %v", r)
	}
	c := dial(t, s)
	_, _ = io.WriteString(c, request("POST", "/openai/a?do=early&wait", "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n"))
	waitFor(t, func() bool { return s.noted("early&wait") > 0 })
	_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Error("the answer was passed on before the body's end")
	}
}
