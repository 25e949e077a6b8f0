//go:build unix

package funchost_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"aoaigateway/handler/devstack/funchost"
)

const x = "/openai/a"

// requestFacts: what is sent; what the handler or the caller gets.
var requestFacts = []fact{
	{row: 0, sent: "any request", got: "the caller's headers, then the host's; names keep their case", check: order},
	{row: 1, sent: "hop-by-hop headers", got: "dropped; what Connection names stays", check: arrives(
		get(x, "Connection: keep-alive, X-Foo", "X-Foo: bar", "Keep-Alive: 5", "TE: trailers", "Proxy-Connection: x", "Proxy-Authorization: y",
			"Upgrade-Insecure-Requests: 1", "Strict-Transport-Security: a", "Alt-Svc: b", "Forwarded: for=1.1.1.1", "X-Forwarded-Prefix: /p",
			"HTTP2-Settings: z", "DNT: 1"),
		[2]string{"X-Foo", "bar"}, [2]string{"Connection"}, [2]string{"Keep-Alive"}, [2]string{"TE"}, [2]string{"Proxy-Connection"},
		[2]string{"Proxy-Authorization"}, [2]string{"Upgrade-Insecure-Requests"}, [2]string{"Strict-Transport-Security"},
		[2]string{"Alt-Svc"}, [2]string{"Forwarded"}, [2]string{"X-Forwarded-Prefix"}, [2]string{"HTTP2-Settings"}, [2]string{"DNT", "1"})},
	{row: 2, sent: "forwarded and invocation headers", got: "replaced", check: arrives(
		get(x, "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil", "X-Azure-Functions-HostVersion: mine"),
		[2]string{"X-Forwarded-For", "127.0.0.1"}, [2]string{"X-Forwarded-Proto", "http"}, [2]string{"X-Forwarded-Host", "gw.example"},
		[2]string{"X-Azure-Functions-HostVersion", "4.1052.200"})},
	{row: 2, sent: "the same on Flex", got: "Proto as it came, Host from Disguised-Host", check: func(t *testing.T, _ *site) {
		arrives(get(x, "X-Forwarded-Proto: https", "X-Forwarded-Host: evil", "Disguised-Host: d.example"),
			[2]string{"X-Forwarded-Proto", "https"},
			[2]string{"X-Forwarded-Host", "d.example"})(t, start(t, funchost.Options{}, "WEBSITE_SKU=FlexConsumption"))
	}},
	{row: 3, sent: "other headers", got: "unchanged", check: all(arrives(
		get(x+"?code=abc", "X-Original-URL: /x", "Disguised-Host: d.example", "X-ARR-SSL: s", "traceparent: 00-a", "tracestate: a=b",
			"Request-Id: |x.1", "baggage: k=v", "x-functions-key: zzz", "Accept-Encoding: gzip, br"),
		[2]string{"X-Original-URL", "/x"}, [2]string{"Disguised-Host", "d.example"}, [2]string{"X-ARR-SSL", "s"},
		[2]string{"traceparent", "00-a"},
		[2]string{"tracestate", "a=b"}, [2]string{"Request-Id", "|x.1"}, [2]string{"baggage", "k=v"}, [2]string{"x-functions-key", "zzz"},
		[2]string{"Accept-Encoding", "gzip, br"}, [2]string{"User-Agent"}), target(x+"?code=abc", x+"?code=abc"))},
	{row: 4, hidden: true, sent: "a header twice", got: "one line each", check: arrives(
		get(x, "X-Dup: one", "X-Dup: two", "Cookie: a=1", "Cookie: b=2"), [2]string{"X-Dup", "one, two"}, [2]string{"Cookie", "a=1; b=2"})},
	{row: 5, sent: "Upgrade: websocket", got: "passes with Connection: Upgrade", check: arrives(
		get(x, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: k"),
		[2]string{"Connection", "Upgrade"}, [2]string{"Upgrade", "websocket"}, [2]string{"Sec-WebSocket-Key", "k"})},
	{row: 6, hidden: true, sent: "no body", got: "Content-Length: 0 of POST, PATCH, PURGE, TRACE; the method in upper case", check: bodyless},
	{row: 7, hidden: true, sent: "length and chunks", got: "chunked, X-Content-Length, the connection closes", check: bothFramings},
	{row: 8, sent: "a trailer", got: "its header passes, itself dropped", check: func(t *testing.T, s *site) {
		seen := s.send(t, chunked(x, "5;ext=1\r\nhello\r\n0\r\nX-T: v\r\n\r\n", "Trailer: X-T")).see(t)
		if seen.N != 5 || seen.How != "chunked" || len(seen.get("Trailer")) != 1 || strings.Contains(seen.Head, "X-T: v") {
			t.Errorf("%+v", seen)
		}
	}},
	{row: 9, hidden: true, sent: "Expect", got: "100 at once from the host, Expect passes", check: expect},
	{row: 10, sent: "an encoded path", got: "decoded and encoded again", check: all(
		target("/openai/a%2Fb", "/openai/a%252Fb"), target("/openai/a%5Cb", "/openai/a%5Cb"), target(`/openai/a\b`, "/openai/a%5Cb"),
		target("/openai/a%zz", "/openai/a%25zz"), target("/openai/a#b", "/openai/a%23b"), target("/openai/%7Ea", "/openai/~a"),
		target("/openai/%E6%9D%B1", "/openai/%E6%9D%B1"), target("/openai/a%252Fb", "/openai/a%252Fb"),
		target("/openai/a;b=c:d@e+f", "/openai/a;b=c:d@e+f"))},
	{row: 11, sent: "dot segments", got: "resolved, then routed", check: all(
		target("/openai/x/../y", "/openai/y"), target("/openai/../manage/x", "/manage/x"), target("/openai/%2e%2e/manage/x", "/manage/x"),
		target("/healthz/../manage/x", "/manage/x"), target("/openai/./a", "/openai/a"), target("/../openai/a/.", "/openai/a/"))},
	{row: 12, sent: "a query", got: "what may not stand in it is encoded", check: all(
		target(x+"?q=a|b{c}^`\"<>", x+"?q=a%7Cb%7Bc%7D%5E%60%22%3C%3E"), target(x+"?q=%2F%5C%00%zz&empty=&&a", x+"?q=%2F%5C%00%25zz&empty=&&a"),
		target(x+"?x=1&y=%20z+q", x+"?x=1&y=%20z+q"))},
	{row: 13, sent: "empty segments", got: "404 up to the catch-all", check: all(
		isEmpty(get("/openai//a"), 404, false), isEmpty(get("//openai/a"), 404, false), target("/openai/a//b///c", "/openai/a//b///c"))},
	{row: 14, hidden: true, sent: "what is malformed", got: "400 without a body, closed", check: malformed},
	{row: 15, hidden: true, sent: "what is nearly malformed", got: "accepted", check: func(t *testing.T, s *site) {
		for _, raw := range []string{
			request("POST", x, "Transfer-Encoding: gzip, chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
			request("POST", x, "Content-Length: +5\r\n", "hello"), "GET " + x + " HTTP/1.1\nHost: x\n\n",
		} {
			if r := s.send(t, raw); r.status != 200 {
				t.Errorf("%q: %v", raw, r)
			}
		}
	}},
	{row: 16, sent: "HTTP 1.2", got: "505", check: isEmpty(strings.Replace(get(x), "HTTP/1.1", "HTTP/1.2", 1), 505, true)},
	{row: 17, hidden: true, sent: "a long request line", got: "414 above 8,192 bytes", check: all(
		isEmpty(get(x+"?q="+strings.Repeat("x", 8200)), 414, true), isEmpty(get(x+"?q="+strings.Repeat("x", 65000)), 414, true),
		target(x+"?q="+strings.Repeat("x", 7900), x+"?q="+strings.Repeat("x", 7900)))},
	{row: 18, hidden: true, sent: "many headers", got: "431 above 32,768 bytes or 100 lines with Host", check: all(
		isEmpty(get(x, "X-Big: "+strings.Repeat("x", 33000)), 431, true), isEmpty(get(x, numbered(100)...), 431, true),
		arrives(get(x, numbered(99)...), [2]string{"X-H98", "v"}), arrives(get(x, "X-Big: "+strings.Repeat("x", 31000)), [2]string{"X-Dup"}))},
	{row: 19, sent: "UTF-8 in a header", got: "500 without a body after ten tries", check: func(t *testing.T, s *site) {
		if r := s.send(t, get(x, "X-User: Müller")); !r.empty(500) || r.took < 1800*time.Millisecond || r.took > 10*time.Second {
			t.Error(r)
		}
	}},
	{row: 20, hidden: true, sent: "a body with a length", got: "read whole first; over the limit: 500", check: wholeFirst},
	{row: 21, sent: "a chunked body", got: "passes as it comes; over the limit 500, the handler is cut", check: asItComes},
	{row: 21, sent: "a bad chunk", got: "500 without a body after 1.9 s", check: func(t *testing.T, s *site) {
		if r := s.send(t, chunked(x, "zz\r\nhello\r\n")); !r.empty(500) || r.took < 1800*time.Millisecond {
			t.Error(r)
		}
	}},
	{row: 22, hidden: true, sent: "a slow upload", got: "500 without a body at 5.5 s", check: slowUpload},
	{row: 23, hidden: true, sent: "a half-closed connection", got: "treated as gone", check: func(t *testing.T, s *site) {
		c := dial(t, s)
		_, _ = io.WriteString(c, get("/openai/a?do=hang&half"))
		waitFor(t, func() bool { return s.noted("half") > 0 })
		_ = c.CloseWrite()
		waitFor(t, func() bool { return s.noted("LEFT") > 0 })
	}},
	{row: 24, sent: "paths of the host", got: "its page, 401 with Bearer, 404", check: ownPaths},
	{row: 25, sent: "a request before the host is up", got: "503 in words", check: beforeUp},
}

func numbered(n int) (header []string) {
	for i := range n {
		header = append(header, fmt.Sprintf("X-H%d: v", i))
	}
	return header
}

func order(t *testing.T, s *site) {
	seen := s.send(t, get(x, "x_under_score: v", "X.Dot: d", "x-ms-invocation-id: mine", "b: 1", "A: 2")).see(t)
	var names []string
	for _, line := range seen.lines()[1:] {
		name, _, _ := strings.Cut(line, ":")
		names = append(names, name)
	}
	want := []string{
		"Host", "x_under_score", "X.Dot", "b", "A", "X-Azure-Functions-HostVersion", "X-Azure-Functions-InvocationId", "x-ms-invocation-id",
		"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto",
	}
	if !slices.Equal(names, want) {
		t.Errorf("header lines %q, want %q", names, want)
	}
	id := seen.get("x-ms-invocation-id")[0]
	if id == "mine" || id != seen.get("X-Azure-Functions-InvocationId")[0] {
		t.Errorf("ids %q", id)
	}
	if host := seen.get("Host")[0]; !strings.HasPrefix(host, "127.0.0.1:") || host == s.addr() {
		t.Errorf("host %q is not the handler's own", host)
	}
}

func bodyless(t *testing.T, s *site) {
	for method, want := range map[string]int{"POST": 1, "PATCH": 1, "PURGE": 1, "TRACE": 1, "GET": 0, "OPTIONS": 0, "DELETE": 0, "post": 1} {
		seen := s.send(t, request(method, x, "", "")).see(t)
		if got := seen.get("Content-Length"); len(got) != want || want > 0 && got[0] != "0" {
			t.Errorf("%s: Content-Length %q", method, got)
		}
		if !strings.HasPrefix(seen.Head, strings.ToUpper(method)+" ") {
			t.Errorf("%s arrives as %q", method, seen.lines()[0])
		}
	}
	if r := s.send(t, request("HEAD", x, "", "")); r.status != 200 || r.body != "" {
		t.Error(r)
	}
}

func bothFramings(t *testing.T, s *site) {
	r := s.send(t, chunked(x, "5\r\nhello\r\n0\r\n\r\n", "Content-Length: 5"))
	seen := r.see(t)
	if seen.How != "chunked" || len(seen.get("Content-Length")) > 0 || !slices.Equal(seen.get("X-Content-Length"), []string{"5"}) ||
		r.header.Get("Connection") != "close" {
		t.Errorf("%v", r)
	}
}

func expect(t *testing.T, s *site) {
	c := dial(t, s)
	_, _ = io.WriteString(c, request("POST", x, "Expect: 100-continue\r\nContent-Length: 5\r\n", ""))
	line := make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))
	began := time.Now()
	_, err := io.ReadFull(c, line)
	if err != nil || string(line) != "HTTP/1.1 100 Continue\r\n\r\n" || time.Since(began) > 900*time.Millisecond {
		t.Fatalf("%q %v after %v", line, err, time.Since(began))
	}
	_, _ = io.WriteString(c, "hello")
	if seen := answerOf(c, false, began).see(t); seen.N != 5 || len(seen.get("Expect")) != 1 {
		t.Errorf("%+v", seen)
	}
}

func malformed(t *testing.T, s *site) {
	for name, raw := range map[string]string{
		"%00": get("/openai/a%00b"), "raw UTF-8": get("/openai/東"), "other host": get("http://other.example/openai/a"),
		"no host": "GET " + x + " HTTP/1.1\r\n\r\n", "two hosts": get(x, "Host: b"), "bad host": "GET " + x + " HTTP/1.1\r\nHost: a b\r\n\r\n",
		"folded": get(x, "X-Fold: a", " b"), "space in a name": get(x, "X Bad: v"), "two lengths": post(x, "hello", "Content-Length: 6"),
		"bad length": request("POST", x, "Content-Length: -1\r\n", ""), "identity": request("POST", x, "Transfer-Encoding: identity\r\n", "a"),
		"CONNECT": "CONNECT gw.example:443 HTTP/1.1\r\nHost: gw.example\r\n\r\n", "Latin-1": get(x, "X-User: M\xfcller"),
	} {
		if r := s.send(t, raw); !r.empty(400) || r.header.Get("Connection") != "close" {
			t.Errorf("%s: %v", name, r)
		}
	}
	isEmpty("GET "+x+" HTTP/1.0\r\n\r\n", 500, true)(t, s) // HTTP/1.0 without Host
	target("http://gw.example/openai/abs?x=1", "/openai/abs?x=1")(t, s)
}

func wholeFirst(t *testing.T, s *site) {
	c := dial(t, s)
	_, _ = io.WriteString(c, request("POST", "/openai/whole", "Content-Length: 5\r\n", "hell"))
	time.Sleep(100 * time.Millisecond)
	if s.noted("POST /openai/whole") != 0 {
		t.Error("the handler was told before the last byte")
	}
	_, _ = io.WriteString(c, "o")
	if seen := answerOf(c, false, time.Now()).see(t); seen.N != 5 || seen.How != "length" {
		t.Errorf("%+v", seen)
	}
	limited := start(t, funchost.Options{}, "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT=1000")
	isEmpty(post("/openai/over", strings.Repeat("x", 1001)), 500, true)(t, limited)
	if limited.noted("/openai/over") != 0 {
		t.Error("the handler was told of a body over the limit")
	}
	if seen := limited.send(t, post(x, strings.Repeat("x", 1000))).see(t); seen.N != 1000 {
		t.Errorf("%d bytes", seen.N)
	}
	isEmpty(request("POST", x, "Content-Length: 104857601\r\n", ""), 500, true)(t, s) // the limit by default
}

func asItComes(t *testing.T, s *site) {
	c := dial(t, s)
	_, _ = io.WriteString(c, chunked("/openai/comes", "4\r\nhell\r\n"))
	waitFor(t, func() bool { return s.noted("POST /openai/comes") == 1 })
	_, _ = io.WriteString(c, "1\r\no\r\n0\r\n\r\n")
	if seen := answerOf(c, false, time.Now()).see(t); seen.N != 5 || seen.How != "chunked" {
		t.Errorf("%+v", seen)
	}
	limited := start(t, funchost.Options{}, "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT=1000")
	isEmpty(chunked("/openai/over", "3e9\r\n"+strings.Repeat("x", 1001)+"\r\n0\r\n\r\n"), 500, true)(t, limited)
	waitFor(t, func() bool { return limited.noted("CUT /openai/over") == 1 })
}

func slowUpload(t *testing.T, s *site) {
	upload := func(rate string) reply {
		c := dial(t, s)
		began := time.Now()
		_, _ = io.WriteString(c, request("POST", x, "Content-Length: 1800\r\n", ""))
		go func() {
			for sent := 0; sent < 1800; sent += len(rate) {
				if _, err := io.WriteString(c, rate); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		return answerOf(c, false, began)
	}
	slow := make(chan reply)
	go func() { slow <- upload(strings.Repeat("x", 100)) }()
	if r := upload(strings.Repeat("x", 300)); r.see(t).N != 1800 {
		t.Error(r)
	}
	if r := <-slow; !r.empty(500) || r.took < 4900*time.Millisecond || r.took > 9*time.Second {
		t.Error(r)
	}
}

func ownPaths(t *testing.T, s *site) {
	if r := s.send(t, get("/")); r.status != 200 || r.header.Get("Content-Type") != "text/html" || r.body == "" {
		t.Error(r)
	}
	for _, path := range []string{"/admin/host/status", "/runtime/webhooks/x"} {
		if r := s.send(t, get(path)); !r.empty(401) || r.header.Get("WWW-Authenticate") != "Bearer" {
			t.Error(r)
		}
	}
	for _, path := range []string{"/nothing", "/favicon.ico", "/sweep", "/api/openai/x"} {
		isEmpty(get(path), 404, false)(t, s)
	}
	isEmpty(post("/sweep", "{}"), 404, false)(t, s)
	isEmpty(strings.Replace(get("*"), "GET", "OPTIONS", 1), 404, false)(t, s)
	target("/healthz/", "/healthz/")(t, s)
	target("/OpenAI/x", "/OpenAI/x")(t, s)
	target("/openai", "/openai")(t, s)
	if r := start(t, funchost.Options{}, "AzureWebJobsDisableHomepage=true").send(t, get("/")); r.status != 204 {
		t.Error(r)
	}
}

// beforeUp holds the host back with a host.json that is a pipe.
func beforeUp(t *testing.T, _ *site) {
	dir, addr := appDir(t, map[string]string{"host.json": ""}), freeAddr(t)
	pipe := filepath.Join(dir, "host.json")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	started := make(chan *site)
	go func() {
		s, err := tryStart(t, funchost.Options{AppDir: dir, Addr: addr})
		if err != nil {
			t.Error(err)
		}
		started <- s
	}()
	var r reply
	waitFor(t, func() bool {
		resp, err := http.Get("http://" + addr + x)
		if err != nil {
			return false
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		r = reply{status: resp.StatusCode, length: resp.ContentLength, body: string(b)}
		return true
	})
	if r.status != 503 || r.length != -1 || r.body != "Function host is not running." {
		t.Error(r)
	}
	if err := os.WriteFile(pipe, fmt.Appendf(nil, hostJSON, os.Args[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	if s := <-started; s != nil {
		target(x, x)(t, s)
	}
}
