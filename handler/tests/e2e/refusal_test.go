package e2e_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"aoaigateway/handler/app"
	"aoaigateway/handler/auth"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal/journaltest"
	"aoaigateway/handler/tests/harness"
)

// bad is a request that the gateway refuses itself, and how.
type bad struct {
	name    string
	request string // as bytes on the wire; {key} is a good key, {host} the gateway
	status  int
	code    string // error.code; empty = any
	says    string // part of the message
	allow   string
	outcome gateway.Outcome // default refused
}

// call is a whole HTTP/1.1 request with a good key and a body.
func call(method, target, body string, headers ...string) string {
	return request(method, target, body, append(headers, "api-key: {key}")...)
}

func request(method, target, body string, headers ...string) string {
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: {host}\r\n", method, target)
	if body != "" || method == http.MethodPost {
		head += fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	for _, h := range headers {
		head += h + "\r\n"
	}
	return head + "\r\n" + body
}

// unsent announces a body that does not follow.
func unsent(request string) string {
	return strings.Replace(request, "Content-Length: 0", "Content-Length: 500", 1)
}

const (
	v1Chat   = "/openai/v1/chat/completions"
	noKey    = "0000000000000000000000000000dead"
	chatTail = "/chat/completions?api-version=2024-10-21"
)

var callers = []bad{
	{name: "no key", request: request("POST", harness.ChatPath, harness.ChatBody), status: 401, code: "SubscriptionKeyNotFound",
		says: "missing subscription key"},
	{name: "empty key", request: request("POST", harness.ChatPath, harness.ChatBody, "api-key:  "), status: 401,
		code: "SubscriptionKeyNotFound"},
	{name: "wrong key", request: request("POST", harness.ChatPath, harness.ChatBody, "api-key: "+noKey), status: 401,
		code: "SubscriptionKeyInvalid"},
	{name: "wrong key before a good one", request: call("POST", harness.ChatPath, harness.ChatBody, "Ocp-Apim-Subscription-Key: "+noKey),
		status: 401, code: "SubscriptionKeyInvalid"},
	{name: "wrong Bearer", request: request("POST", harness.ChatPath, harness.ChatBody, "Authorization: Bearer "+noKey), status: 401,
		code: "SubscriptionKeyInvalid"},
	{name: "wrong key in the query", request: request("POST", harness.ChatPath+"&Subscription-Key="+noKey, harness.ChatBody), status: 401,
		code: "SubscriptionKeyInvalid"},
	{name: "a lone token", request: request("POST", harness.ChatPath, harness.ChatBody,
		"Authorization: Bearer eyJhbGciOiJSUzI1NiJ9.e30.c2ln"), status: 401, code: "TokenNotAccepted"},
	{name: "a region's key", request: request("POST", harness.ChatPath, harness.ChatBody, "api-key: key-of-a"), status: 401,
		code: "SubscriptionKeyInvalid"},
	{name: "suspended subscription", request: request("POST", harness.ChatPath, harness.ChatBody, "api-key: {suspended}"), status: 401,
		code: "SubscriptionKeyInvalid"},
	{name: "refused before its body is asked for", request: unsent(request("POST", harness.ChatPath, "", "api-key: "+noKey,
		"Expect: 100-continue")), status: 401},
	{name: "no key, and a body that never comes", request: unsent(request("POST", harness.ChatPath, "")), status: 401},
	{name: "no key, unknown operation", request: request("GET", "/openai/nothing", ""), status: 401},
	{name: "model not in the product", request: request("POST", "/openai/deployments/modelname/completions?api-version=2024-10-21",
		`{"prompt":"x"}`, "api-key: {narrow}"), status: 403, code: "ModelNotAllowed", says: "modelname"},
}

var routes = []bad{
	{name: "unknown operation", request: call("POST", "/openai/deployments/chat/nothing?api-version=2024-10-21", harness.ChatBody),
		status: 404, code: "OperationNotFound", says: "Unable to match incoming request to an operation."},
	{name: "nothing below openai", request: call("POST", "/openai", harness.ChatBody), status: 404, code: "OperationNotFound"},
	{name: "nothing below v1", request: call("POST", "/openai/v1/", harness.ChatBody), status: 404, code: "OperationNotFound"},
	{name: "wrong method", request: call("GET", harness.ChatPath, ""), status: 404, code: "OperationNotFound",
		says: "Unable to match incoming request to an operation.", allow: "POST"},
	{name: "HEAD", request: call("HEAD", harness.ChatPath, ""), status: 404, allow: "POST"},
	{name: "OPTIONS", request: call("OPTIONS", harness.ChatPath, ""), status: 404, allow: "POST"},
	{name: "TRACE", request: call("TRACE", harness.ChatPath, ""), status: 404, allow: "POST"},
	{name: "a method nobody knows", request: call("FROBNICATE", harness.ChatPath, ""), status: 404, allow: "POST"},
	{name: "missing api-version", request: call("POST", "/openai/deployments/chat/chat/completions", harness.ChatBody), status: 404,
		code: "404", says: "Resource not found"},
	{name: "unknown deployment", request: call("POST", "/openai/deployments/nobody"+chatTail, harness.ChatBody), status: 404,
		code: "DeploymentNotFound", says: "The API deployment for this resource does not exist."},
	{name: "a region's own name of a deployment", request: call("POST", "/openai/deployments/chat-a"+chatTail, harness.ChatBody), status: 404,
		code: "DeploymentNotFound"},
	{name: "unknown deployment on v1", request: call("POST", v1Chat, `{"model":"nobody","messages":[]}`), status: 404,
		code: "DeploymentNotFound"},
	{name: "a path as model", request: call("POST", v1Chat, `{"model":"../../x","messages":[]}`), status: 404, code: "DeploymentNotFound"},
	{name: "a model of control characters", request: call("POST", v1Chat, `{"model":"chat\r\nX-Evil: 1\u0000","messages":[]}`), status: 404,
		code: "DeploymentNotFound"},
	{name: "a deployment of bytes that are no text", request: call("POST", "/openai/deployments/%ff%fe"+chatTail, harness.ChatBody),
		status: 404, code: "DeploymentNotFound"},
	{name: "line breaks in the path", request: call("POST", "/openai/deployments/chat%0d%0aX-Evil:%201"+chatTail, harness.ChatBody),
		status: 404, code: "DeploymentNotFound"},
	{name: "%2F", request: call("POST", "/openai/deployments/x%2Fchat"+chatTail, harness.ChatBody), status: 404, code: "OperationNotFound"},
	{name: "%2f", request: call("POST", "/openai/deployments/chat%2fchat%2fcompletions?api-version=2024-10-21", harness.ChatBody),
		status: 404, code: "OperationNotFound"},
	{name: "%5C", request: call("POST", "/openai/deployments/x%5Cchat"+chatTail, harness.ChatBody), status: 404, code: "OperationNotFound"},
	{name: "backslash", request: call("POST", `/openai/deployments/x\chat`+chatTail, harness.ChatBody), status: 404,
		code: "OperationNotFound"},
	{name: "%00", request: call("POST", "/openai/deployments/chat%00"+chatTail, harness.ChatBody), status: 404, code: "OperationNotFound"},
	{name: "doubly encoded", request: call("POST", "/openai/deployments/x%252fchat"+chatTail, harness.ChatBody), status: 404,
		code: "OperationNotFound"},
	{name: "%2e%2e", request: call("POST", "/openai/deployments/%2e%2e"+chatTail, harness.ChatBody), status: 404, code: "OperationNotFound"},
	{name: "dot-dot", request: call("POST", "/openai/deployments/../deployments/chat"+chatTail, harness.ChatBody), status: 404,
		code: "OperationNotFound"},
	{name: "one dot", request: call("POST", "/openai/deployments/./chat"+chatTail, harness.ChatBody), status: 404, code: "OperationNotFound"},
	{name: "inner //", request: call("POST", "/openai/deployments//chat"+chatTail, harness.ChatBody), status: 404, code: "OperationNotFound"},
	{name: "trailing //", request: call("POST", "/openai/deployments/chat/chat/completions//?api-version=2024-10-21", harness.ChatBody),
		status: 404, code: "OperationNotFound"},
	{name: "up to the management", request: call("GET", "/openai/../manage/api/subscriptions", ""), status: 404, code: "OperationNotFound"},
	{name: "realtime", request: call("GET", "/openai/realtime?api-version=2024-10-01-preview&deployment=chat", "", "Connection: Upgrade",
		"Upgrade: websocket"), status: 501, code: "RealtimeNotSupported", says: "WebSockets"},
}

var bodies = []bad{
	{name: "malformed JSON", request: call("POST", harness.ChatPath, `{"messages":[}`), status: 400, says: "byte 13"},
	{name: "empty body", request: call("POST", harness.ChatPath, ""), status: 400, says: "JSON"},
	{name: "half a JSON object", request: call("POST", harness.ChatPath, `{"messages":[{"role":`), status: 400, says: "JSON"},
	{name: "two JSON objects", request: call("POST", harness.ChatPath, harness.ChatBody+harness.ChatBody), status: 400, says: "JSON"},
	{name: "JSON null", request: call("POST", harness.ChatPath, `null`), status: 400, says: "object"},
	{name: "a JSON array", request: call("POST", harness.ChatPath, `[]`), status: 400, says: "object"},
	{name: "a JSON string", request: call("POST", harness.ChatPath, `"x"`), status: 400, says: "object"},
	{name: "a name twice", request: call("POST", v1Chat, `{"model":"chat","model":"modelname","messages":[]}`), status: 400, says: "twice"},
	{name: "a name twice, once escaped", request: call("POST", v1Chat, `{"model":"chat","mod\u0065l":"modelname","messages":[]}`),
		status: 400, says: "twice"},
	{name: "a name twice, deep down", request: call("POST", harness.ChatPath, `{"messages":[{"role":"user","role":"system","content":"x"}]}`),
		status: 400, says: "/messages/0"},
	{name: "invalid UTF-8", request: call("POST", harness.ChatPath, "{\"messages\":[{\"content\":\"\xff\xfe\"}]}"), status: 400, says: "JSON"},
	{name: "half a surrogate pair", request: call("POST", harness.ChatPath, `{"messages":[{"content":"\ud800"}]}`), status: 400, says: "JSON"},
	{name: "100,000 levels", request: call("POST", harness.ChatPath,
		`{"messages":`+strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000)+"}"), status: 400, says: "JSON"},
	{name: "100,000 open levels", request: call("POST", harness.ChatPath, strings.Repeat(`{"a":`, 100_000)), status: 400, says: "JSON"},
	{name: "no model on v1", request: call("POST", v1Chat, `{"messages":[]}`), status: 400, code: "missing_model", says: "model"},
	{name: "a number as model on v1", request: call("POST", v1Chat, `{"model":7,"messages":[]}`), status: 400, code: "missing_model"},
	{name: "announced too long", request: strings.Replace(call("POST", harness.ChatPath, ""), "Content-Length: 0", "Content-Length: 1048577",
		1), status: 413, says: "1048576 bytes"},
	{name: "chunked too long", request: strings.Replace(call("POST", harness.ChatPath, ""), "Content-Length: 0", "Transfer-Encoding: chunked",
		1) +
		// and no last chunk: it is not waited for
		strings.Repeat("4000\r\n"+strings.Repeat(" ", 0x4000)+"\r\n", 65), status: 413, says: "1048576 bytes"},
	{name: "headers of a megabyte", request: call("POST", harness.ChatPath, harness.ChatBody, "X-Long: "+strings.Repeat("x", 1<<20)),
		status: 431, says: "65536"},
	{name: "many small headers", request: call("POST", harness.ChatPath, harness.ChatBody,
		slices.Repeat([]string{"X-Many: some"}, 10_000)...), status: 431},
	{name: "a query of a megabyte", request: call("POST", harness.ChatPath+"&q="+strings.Repeat("x", 1<<20), harness.ChatBody), status: 431,
		says: "65536"},
	{name: "chunks that are none", request: strings.Replace(call("POST", harness.ChatPath, ""), "Content-Length: 0",
		"Transfer-Encoding: chunked", 1) + "zz\r\n", status: 400, code: "ClientConnectionFailure", says: "body"},
	{name: "a model of a megabyte", request: call("POST", v1Chat, `{"model":"`+strings.Repeat("é", 400_000)+`","messages":[]}`), status: 404,
		code: "DeploymentNotFound"},
}

func TestBadRequestsAreRefused(t *testing.T) {
	r := harness.Start(t, harness.Options{})
	keys := strings.NewReplacer("{key}", r.Key, "{narrow}", r.Subscribe("narrow", "narrow"), "{suspended}", r.Subscribe("default", "late"),
		"{host}", strings.TrimPrefix(r.URL, "http://"))
	r.SetState("late", auth.Suspended)
	for _, c := range slices.Concat(callers, routes, bodies) {
		t.Run(c.name, func(t *testing.T) {
			a := wire(r, keys.Replace(c.request))
			wantRefusal(r, t, a, c)
			if good := r.Post(harness.ChatPath, harness.ChatBody); good.Status != 200 {
				t.Errorf("a good request afterwards: %d, %v", good.Status, good.Err)
			}
		})
	}
	cases := len(callers) + len(routes) + len(bodies)
	if n := r.Regions[0].Counts().Requests + r.Regions[1].Counts().Requests; n != int64(cases) {
		t.Errorf("the regions were asked %d times for %d good requests", n, cases)
	}
	if n := r.Ends(); n != 2*cases {
		t.Errorf("%d end records of %d requests", n, 2*cases)
	}
}

// wire writes bytes and reads one answer, with the client's end left open.
func wire(r *harness.Gateway, bytes string) harness.Answer {
	r.T.Helper()
	conn := dial(r)
	defer conn.Close()
	go func() { _, _ = io.WriteString(conn, bytes) }()
	method, _, _ := strings.Cut(bytes, " ")
	return readAnswer(bufio.NewReader(conn), method)
}

func dial(r *harness.Gateway) net.Conn {
	r.T.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.URL, "http://"))
	if err != nil {
		r.T.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	return conn
}

func readAnswer(in *bufio.Reader, method string) harness.Answer {
	resp, err := http.ReadResponse(in, &http.Request{Method: method})
	if err != nil {
		return harness.Answer{Err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return harness.Answer{Status: resp.StatusCode, Header: resp.Header, Body: b, Err: err}
}

func wantRefusal(r *harness.Gateway, t *testing.T, a harness.Answer, c bad) {
	t.Helper()
	if a.Err != nil || a.Status != c.status {
		t.Fatalf("%d, %v: %.300s", a.Status, a.Err, a.Body)
	}
	rec := r.RecordOf(a)
	if c.outcome == "" {
		c.outcome = gateway.Refused
	}
	if rec.Status != c.status || rec.Outcome != c.outcome || len(rec.Attempts) != 0 || rec.ErrorReason == "" || rec.TotalMilli > 5000 {
		t.Errorf("record %+v", rec)
	}
	if got := a.Header.Get("Allow"); got != c.allow {
		t.Errorf("Allow %q", got)
	}
	wantNoSecrets(r, t, fmt.Sprint(a.Header)+string(a.Body))
	if !strings.HasPrefix(c.request, http.MethodHead) {
		wantErrorShape(t, a, c)
	}
}

func wantErrorShape(t *testing.T, a harness.Answer, c bad) {
	t.Helper()
	var body struct {
		StatusCode int
		Message    string
		Error      map[string]any
	}
	if err := json.Unmarshal(a.Body, &body); err != nil {
		t.Fatalf("%v: %.300s", err, a.Body)
	}
	_, param := body.Error["param"]
	code, _ := body.Error["code"].(string)
	kind, _ := body.Error["type"].(string)
	if body.StatusCode != a.Status || body.Message == "" || body.Error["message"] != body.Message || code == "" || kind == "" || !param {
		t.Errorf("body %s", a.Body)
	}
	if c.code != "" && code != c.code || !strings.Contains(body.Message, c.says) {
		t.Errorf("code %q, message %q", code, body.Message)
	}
	if a.Header.Get("Content-Type") != "application/json" {
		t.Errorf("content type %q", a.Header.Get("Content-Type"))
	}
}

// wantNoSecrets: no region's key or address and no caller's key, in an answer or in the
// journal.
func wantNoSecrets(r *harness.Gateway, t *testing.T, text string) {
	t.Helper()
	secrets := []string{"key-of-", r.Key, harness.AdminKey}
	for _, endpoint := range r.Endpoints {
		secrets = append(secrets, strings.TrimPrefix(endpoint, "http://"))
	}
	for _, s := range secrets {
		if strings.Contains(text, s) {
			t.Errorf("%q shows in %.500s", s, text)
		}
	}
}

func TestRecordHoldsNoKey(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1})
	for _, query := range []string{"subscription-key=", "Subscription-KEY=", "api-key=", "code=", "%61pi-key=", "x=1&subscription%2Dkey="} {
		if a := r.Do(http.MethodPost, harness.ChatPath+"&"+query+r.Key, harness.ChatBody, "Api-Key="+r.Key); a.Status != 200 {
			t.Errorf("%s: %d %s", query, a.Status, a.Body)
		}
		r.Do(http.MethodGet, "/openai/nothing?"+query+r.Key, "")
	}
	r.Do(http.MethodPost, harness.ChatPath+";subscription-key="+r.Key, harness.ChatBody, "Api-Key="+r.Key, "Cookie="+r.Key)
	for _, line := range journaltest.Lines(t, r.Blobs) {
		text, err := json.Marshal(line)
		if err != nil {
			t.Fatal(err)
		}
		wantNoSecrets(r, t, string(text))
	}
	for _, x := range r.Regions[0].Exchanges() {
		if text := fmt.Sprint(x.URL, x.Header); strings.Contains(text, r.Key) {
			t.Errorf("the region saw the caller's key: %s", text)
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
			wantRefusal(r, t, a, bad{status: 400, code: "ClientConnectionFailure", says: fmt.Sprintf("ended after %d bytes", len(harness.ChatBody))})
			if good := r.Post(harness.ChatPath, harness.ChatBody); good.Status != 200 {
				t.Errorf("a good request afterwards: %d", good.Status)
			}
		})
	}
}

func TestUnreadBodyFreesConnection(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1})
	fill := strings.NewReplacer("{host}", "gateway")
	for request, status := range map[string]int{"GET /healthz": 200, "GET /": 204, "POST /manage/api/subscriptions": 401,
		"GET /nothing": 404} {
		method, target, _ := strings.Cut(request, " ")
		c := call(method, target, "", "Content-Length: 500")
		if method == http.MethodPost {
			c = unsent(call(method, target, ""))
		}
		if a := wire(r, fill.Replace(strings.Replace(c, "api-key", "x", 1))); a.Status != status {
			t.Errorf("%s: %d, %v", request, a.Status, a.Err)
		}
	}
}

func TestBodyPausesTooLong(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1, Settings: func(s *app.Settings) { s.ClientIdleTimeout = 50 * time.Millisecond }})
	head := strings.NewReplacer("{key}", r.Key, "{host}", "gateway").Replace(unsent(call("POST", harness.ChatPath, "")))
	a := wire(r, head+harness.ChatBody)
	wantRefusal(r, t, a, bad{status: 400, says: "stopped"})
}

// What HTTP itself refuses never reaches the gateway: no record, and no harm.
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
		a := wire(r, fill.Replace(c))
		if a.Err == nil && a.Status < 400 {
			t.Errorf("%s: %d", name, a.Status)
		}
		if good := r.Post(harness.ChatPath, harness.ChatBody); good.Status != 200 {
			t.Errorf("a good request after %s: %d, %v", name, good.Status, good.Err)
		}
	}
}

// Unusual, but no mistakes: each is answered as any other request.
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
			a := wire(r, fill.Replace(c))
			if a.Status == http.StatusContinue { // the answer proper follows; not read here
				return
			}
			if a.Status != 200 || a.Err != nil {
				t.Fatalf("%d, %v: %s", a.Status, a.Err, a.Body)
			}
			if rec := r.RecordOf(a); rec.Outcome != gateway.Complete || rec.Usage.Total == 0 {
				t.Errorf("record %+v", rec)
			}
			if last := r.Regions[0].Counts().Last; last.Header.Get("Api-Key") != "key-of-a" || last.Header.Get("Transfer-Encoding") != "" {
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
