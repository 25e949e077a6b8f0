package e2e_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/tests/harness"
)

// bad is a request that the gateway itself refuses, and the expected refusal.
type bad struct {
	name    string
	request string // bytes of the request; {key} stands for a valid key and {host} for the gateway
	status  int
	code    string // expected error.code; empty = any
	says    string // expected part of the message
	allow   string
	outcome gateway.Outcome // default: refused
}

// call returns an HTTP/1.1 request with a valid key and a body.
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

// unsent returns a request that announces a body but does not send it.
func unsent(request string) string {
	return strings.Replace(request, "Content-Length: 0", "Content-Length: 500", 1)
}

var callers = []bad{
	{
		name: "no key", request: request("POST", harness.ChatPath, harness.ChatBody), status: 401, code: "SubscriptionKeyNotFound",
		says: "missing subscription key",
	},
	{
		name: "empty key", request: request("POST", harness.ChatPath, harness.ChatBody, "api-key:  "), status: 401,
		code: "SubscriptionKeyNotFound",
	},
	{
		name: "wrong key", request: request("POST", harness.ChatPath, harness.ChatBody, "api-key: "+noKey), status: 401,
		code: "SubscriptionKeyInvalid",
	},
	{
		name: "wrong key before a good one", request: call("POST", harness.ChatPath, harness.ChatBody, "Ocp-Apim-Subscription-Key: "+noKey),
		status: 401, code: "SubscriptionKeyInvalid",
	},
	{
		name: "wrong Bearer", request: request("POST", harness.ChatPath, harness.ChatBody, "Authorization: Bearer "+noKey), status: 401,
		code: "SubscriptionKeyInvalid",
	},
	{
		name: "wrong key in the query", request: request("POST", harness.ChatPath+"&Subscription-Key="+noKey, harness.ChatBody), status: 401,
		code: "SubscriptionKeyInvalid",
	},
	{name: "a lone token", request: request("POST", harness.ChatPath, harness.ChatBody,
		"Authorization: Bearer eyJhbGciOiJSUzI1NiJ9.e30.c2ln"), status: 401, code: "TokenNotAccepted"},
	{
		name: "a region's key", request: request("POST", harness.ChatPath, harness.ChatBody, "api-key: key-of-a"), status: 401,
		code: "SubscriptionKeyInvalid",
	},
	{
		name: "suspended subscription", request: request("POST", harness.ChatPath, harness.ChatBody, "api-key: {suspended}"), status: 401,
		code: "SubscriptionKeyInvalid",
	},
	{name: "refused before its body is asked for", request: unsent(request("POST", harness.ChatPath, "", "api-key: "+noKey,
		"Expect: 100-continue")), status: 401},
	{name: "no key, and a body that never comes", request: unsent(request("POST", harness.ChatPath, "")), status: 401},
	{name: "no key, unknown operation", request: request("GET", "/openai/nothing", ""), status: 401},
	{name: "model not in the product", request: request("POST", "/openai/deployments/modelname/completions?api-version=2024-10-21",
		`{"prompt":"x"}`, "api-key: {narrow}"), status: 403, code: "ModelNotAllowed", says: "modelname"},
}

var routes = []bad{
	{
		name: "unknown operation", request: call("POST", "/openai/deployments/chat/nothing?api-version=2024-10-21", harness.ChatBody),
		status: 404, code: "OperationNotFound", says: "Unable to match incoming request to an operation.",
	},
	{name: "nothing below openai", request: call("POST", "/openai", harness.ChatBody), status: 404, code: "OperationNotFound"},
	{name: "nothing below v1", request: call("POST", "/openai/v1/", harness.ChatBody), status: 404, code: "OperationNotFound"},
	{
		name: "wrong method", request: call("GET", harness.ChatPath, ""), status: 404, code: "OperationNotFound",
		says: "Unable to match incoming request to an operation.", allow: "POST",
	},
	{name: "HEAD", request: call("HEAD", harness.ChatPath, ""), status: 404, allow: "POST"},
	{name: "OPTIONS", request: call("OPTIONS", harness.ChatPath, ""), status: 404, allow: "POST"},
	{name: "TRACE", request: call("TRACE", harness.ChatPath, ""), status: 404, allow: "POST"},
	{name: "a method nobody knows", request: call("FROBNICATE", harness.ChatPath, ""), status: 404, allow: "POST"},
	{
		name: "missing api-version", request: call("POST", "/openai/deployments/chat/chat/completions", harness.ChatBody), status: 404,
		code: "404", says: "Resource not found",
	},
	{
		name: "unknown deployment", request: call("POST", "/openai/deployments/nobody"+chatTail, harness.ChatBody), status: 404,
		code: "DeploymentNotFound", says: "The API deployment for this resource does not exist.",
	},
	{
		name: "a region's own name of a deployment", request: call("POST", "/openai/deployments/chat-a"+chatTail, harness.ChatBody), status: 404,
		code: "DeploymentNotFound",
	},
	{
		name: "unknown deployment on v1", request: call("POST", v1Chat, `{"model":"nobody","messages":[]}`), status: 404,
		code: "DeploymentNotFound",
	},
	{name: "a path as model", request: call("POST", v1Chat, `{"model":"../../x","messages":[]}`), status: 404, code: "DeploymentNotFound"},
	{
		name: "a model of control characters", request: call("POST", v1Chat, `{"model":"chat\r\nX-Evil: 1\u0000","messages":[]}`), status: 404,
		code: "DeploymentNotFound",
	},
	{
		name: "a deployment of bytes that are no text", request: call("POST", "/openai/deployments/%ff%fe"+chatTail, harness.ChatBody),
		status: 404, code: "DeploymentNotFound",
	},
	{
		name: "line breaks in the path", request: call("POST", "/openai/deployments/chat%0d%0aX-Evil:%201"+chatTail, harness.ChatBody),
		status: 404, code: "DeploymentNotFound",
	},
	{name: "%2F", request: call("POST", "/openai/deployments/x%2Fchat"+chatTail, harness.ChatBody), status: 404, code: "OperationNotFound"},
	{
		name: "%2f", request: call("POST", "/openai/deployments/chat%2fchat%2fcompletions?api-version=2024-10-21", harness.ChatBody),
		status: 404, code: "OperationNotFound",
	},
	{name: "%5C", request: call("POST", "/openai/deployments/x%5Cchat"+chatTail, harness.ChatBody), status: 404, code: "OperationNotFound"},
	{
		name: "backslash", request: call("POST", `/openai/deployments/x\chat`+chatTail, harness.ChatBody), status: 404,
		code: "OperationNotFound",
	},
	{name: "%00", request: call("POST", "/openai/deployments/chat%00"+chatTail, harness.ChatBody), status: 404, code: "OperationNotFound"},
	{
		name: "doubly encoded", request: call("POST", "/openai/deployments/x%252fchat"+chatTail, harness.ChatBody), status: 404,
		code: "OperationNotFound",
	},
	{name: "%2e%2e", request: call("POST", "/openai/deployments/%2e%2e"+chatTail, harness.ChatBody), status: 404, code: "OperationNotFound"},
	{
		name: "dot-dot", request: call("POST", "/openai/deployments/../deployments/chat"+chatTail, harness.ChatBody), status: 404,
		code: "OperationNotFound",
	},
	{name: "one dot", request: call("POST", "/openai/deployments/./chat"+chatTail, harness.ChatBody), status: 404, code: "OperationNotFound"},
	{name: "inner //", request: call("POST", "/openai/deployments//chat"+chatTail, harness.ChatBody), status: 404, code: "OperationNotFound"},
	{
		name: "trailing //", request: call("POST", "/openai/deployments/chat/chat/completions//?api-version=2024-10-21", harness.ChatBody),
		status: 404, code: "OperationNotFound",
	},
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
	{
		name: "a name twice, once escaped", request: call("POST", v1Chat, `{"model":"chat","mod\u0065l":"modelname","messages":[]}`),
		status: 400, says: "twice",
	},
	{
		name: "a name twice, deep down", request: call("POST", harness.ChatPath, `{"messages":[{"role":"user","role":"system","content":"x"}]}`),
		status: 400, says: "/messages/0",
	},
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
		// The last chunk is missing, and the gateway must not wait for it.
		strings.Repeat("4000\r\n"+strings.Repeat(" ", 0x4000)+"\r\n", 65), status: 413, says: "1048576 bytes"},
	{
		name: "headers of a megabyte", request: call("POST", harness.ChatPath, harness.ChatBody, "X-Long: "+strings.Repeat("x", 1<<20)),
		status: 431, says: "65536",
	},
	{name: "many small headers", request: call("POST", harness.ChatPath, harness.ChatBody,
		slices.Repeat([]string{"X-Many: some"}, 10_000)...), status: 431},
	{
		name: "a query of a megabyte", request: call("POST", harness.ChatPath+"&q="+strings.Repeat("x", 1<<20), harness.ChatBody), status: 431,
		says: "65536",
	},
	{name: "chunks that are none", request: strings.Replace(call("POST", harness.ChatPath, ""), "Content-Length: 0",
		"Transfer-Encoding: chunked", 1) + "zz\r\n", status: 400, code: "ClientConnectionFailure", says: "body"},
	{
		name: "a model of a megabyte", request: call("POST", v1Chat, `{"model":"`+strings.Repeat("é", 400_000)+`","messages":[]}`), status: 404,
		code: "DeploymentNotFound",
	},
}
