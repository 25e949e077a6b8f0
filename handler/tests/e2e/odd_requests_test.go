package e2e_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"aoaigateway/handler/app/settings"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal/journaltest"
	"aoaigateway/handler/tests/harness"
)

// These requests are unusual but valid, so the gateway answers them normally.
func TestUnusualRequestsAreServed(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1})
	fill := strings.NewReplacer("{key}", r.Key, "{host}", "gateway")
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(harness.ChatBody), harness.ChatBody)
	for name, c := range map[string]string{
		"a dummy after a good key": call("POST", harness.ChatPath, harness.ChatBody, "Authorization: Bearer dummy"),
		"a good key before a wrong one": request("POST", harness.ChatPath, harness.ChatBody, "Ocp-Apim-Subscription-Key: {key}",
			"api-key: dummy"),
		"key as Bearer, any case": request("POST", harness.ChatPath, harness.ChatBody, "Authorization: bearer {key}"),
		"key in the query":        request("POST", harness.ChatPath+"&subscription-key={key}", harness.ChatBody),
		"HTTP/1.0":                strings.Replace(call("POST", harness.ChatPath, harness.ChatBody), "HTTP/1.1", "HTTP/1.0", 1),
		"absolute form":           call("POST", "http://elsewhere.example"+harness.ChatPath, harness.ChatBody),
		"doubled leading slashes": call("POST", "///"+harness.ChatPath[1:], harness.ChatBody),
		"a trailing slash":        call("POST", "/openai/deployments/chat/chat/completions/?api-version=2024-10-21", harness.ChatBody),
		"api-version in capitals": call("POST", strings.Replace(harness.ChatPath, "api-version", "API-Version", 1), harness.ChatBody),
		"chunked": strings.Replace(call("POST", harness.ChatPath, ""), "Content-Length: 0", "Transfer-Encoding: chunked",
			1) + chunked,
		"chunked with a length beside": strings.Replace(call("POST", harness.ChatPath, ""), "Content-Length: 0",
			"Content-Length: 5\r\nTransfer-Encoding: chunked", 1) + chunked,
		"an absurd query": call("POST", harness.ChatPath+"&&&=&%zz=%&a=b=c;d&"+strings.Repeat("x=y&", 500), harness.ChatBody),
		"1e999": call("POST", harness.ChatPath,
			strings.Replace(harness.ChatBody, `"seed":1`, `"seed":1,"extra":1e999`, 1)),
		"expecting 100": call("POST", harness.ChatPath, harness.ChatBody, "Expect: 100-continue"),
		"trailers": strings.Replace(call("POST", harness.ChatPath, "", "Trailer: Api-Key"), "Content-Length: 0",
			"Transfer-Encoding: chunked", 1) + strings.TrimSuffix(chunked, "\r\n") + "Api-Key: evil\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			a := sendRaw(r, fill.Replace(c))
			if a.Status == http.StatusContinue { // the final answer follows and is not read here
				return
			}
			if a.Status != 200 || a.Err != nil {
				t.Fatalf("%d, %v: %s", a.Status, a.Err, a.Body)
			}
			if rec := r.RecordOf(a); rec.Outcome != gateway.Complete || rec.Usage.Total == 0 {
				t.Errorf("record %+v", rec)
			}
			if last := lastOf(r); last.Header.Get("Api-Key") != "key-of-a" || last.Header.Get("Transfer-Encoding") != "" {
				t.Errorf("the region saw %v", last.Header)
			}
		})
	}
}

func TestPipelinedRequests(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1})
	fill := strings.NewReplacer("{key}", r.Key, "{host}", "gateway")
	conn := dial(r)
	defer conn.Close()
	list := []bad{
		{request: call("POST", harness.ChatPath, harness.ChatBody), status: 200},
		{request: request("POST", harness.ChatPath, harness.ChatBody), status: 401},
		{request: call("POST", harness.ChatPath, harness.ChatStream), status: 200},
		{request: call("POST", harness.ChatPath, "{"), status: 400},
		{request: call("POST", harness.ChatPath, harness.ChatBody), status: 200},
	}
	for _, c := range list {
		_, _ = io.WriteString(conn, fill.Replace(c.request))
	}
	in := bufio.NewReader(conn)
	for i, c := range list {
		if a := readAnswer(in, http.MethodPost); a.Status != c.status || a.Err != nil {
			t.Errorf("answer %d: %d, %v", i, a.Status, a.Err)
		}
	}
	ids := map[string]int{}
	for _, line := range journaltest.Lines(t, r.Blobs) {
		if line.Type == gateway.End {
			ids[line.ID]++
		}
	}
	if len(ids) != len(list) {
		t.Errorf("%d records", len(ids))
	}
}

// net/http refuses these requests before they reach the gateway, so they have no record and
// do no harm.
func TestNotHTTPIsRefused(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1})
	fill := strings.NewReplacer("{key}", r.Key, "{host}", "gateway")
	for name, c := range map[string]string{
		"no leading slash":             call("POST", harness.ChatPath[1:], harness.ChatBody),
		"a header that is none":        call("POST", harness.ChatPath, harness.ChatBody, "no colon here"),
		"a folded header name":         call("POST", harness.ChatPath, harness.ChatBody, "X-A : b"),
		"two lengths":                  call("POST", harness.ChatPath, harness.ChatBody, "Content-Length: 1"),
		"an unknown transfer encoding": call("POST", harness.ChatPath, harness.ChatBody, "Transfer-Encoding: xchunked"),
		"two transfer encodings": call("POST", harness.ChatPath, harness.ChatBody, "Transfer-Encoding: chunked",
			"Transfer-Encoding: identity"),
		"a space in the path":      call("POST", "/openai/deployments/a b"+chatTail, harness.ChatBody),
		"control characters":       call("POST", "/openai/\x01"+chatTail, harness.ChatBody),
		"no host":                  strings.Replace(call("POST", harness.ChatPath, harness.ChatBody), "Host: {host}\r\n", "", 1),
		"a query of ten megabytes": call("POST", harness.ChatPath+"&q="+strings.Repeat("x", 10<<20), harness.ChatBody),
		"no HTTP":                  "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
		"a newer HTTP":             "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		a := sendRaw(r, fill.Replace(c))
		if a.Err == nil && a.Status < 400 {
			t.Errorf("%s: %d", name, a.Status)
		}
		if good := r.Post(harness.ChatPath, harness.ChatBody); good.Status != 200 {
			t.Errorf("a good request after %s: %d, %v", name, good.Status, good.Err)
		}
	}
}

func TestBodyEndsEarly(t *testing.T) {
	for name, framing := range map[string]string{"announced": "Content-Length: 500", "chunked": "Transfer-Encoding: chunked"} {
		t.Run(name, func(t *testing.T) {
			r := harness.Start(t, harness.Options{Regions: 1})
			whole := strings.Replace(call("POST", harness.ChatPath, ""), "Content-Length: 0", framing, 1)
			sent := harness.ChatBody
			if name == "chunked" {
				sent = fmt.Sprintf("%x\r\n%s", len(harness.ChatBody)+100, harness.ChatBody)
			}
			a := r.Raw(strings.NewReplacer("{key}", r.Key, "{host}", "gateway").Replace(whole) + sent)
			says := fmt.Sprintf("broke off after %d bytes", len(harness.ChatBody))
			wantRefusal(r, t, a, bad{status: 400, code: "ClientConnectionFailure", says: says})
			if good := r.Post(harness.ChatPath, harness.ChatBody); good.Status != 200 {
				t.Errorf("a good request afterwards: %d", good.Status)
			}
		})
	}
}

func TestUnreadBodyFreesConnection(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1})
	fill := strings.NewReplacer("{host}", "gateway")
	for request, status := range map[string]int{
		"GET /healthz": 200, "GET /": 204, "POST /manage/api/subscriptions": 401,
		"GET /nothing": 404,
	} {
		method, target, _ := strings.Cut(request, " ")
		c := call(method, target, "", "Content-Length: 500")
		if method == http.MethodPost {
			c = unsent(call(method, target, ""))
		}
		if a := sendRaw(r, fill.Replace(strings.Replace(c, "api-key", "x", 1))); a.Status != status {
			t.Errorf("%s: %d, %v", request, a.Status, a.Err)
		}
	}
}

func TestBodyPausesTooLong(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1, Settings: func(s *settings.Values) { s.ClientIdleTimeout = 50 * time.Millisecond }})
	head := strings.NewReplacer("{key}", r.Key, "{host}", "gateway").Replace(unsent(call("POST", harness.ChatPath, "")))
	a := sendRaw(r, head+harness.ChatBody)
	wantRefusal(r, t, a, bad{status: 400, says: "paused"})
}
