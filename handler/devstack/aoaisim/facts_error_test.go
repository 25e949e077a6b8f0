package aoaisim_test

import (
	"net/http"
	"strings"
	"time"

	"aoaigateway/handler/devstack/aoaisim"
)

// throttle is a request over the limit of the deployment tight.
const throttleAt = "/openai/deployments/tight/chat/completions?api-version=2024-10-21"

func throttledIn(scenario string, headers map[string]string, texts ...string) fact {
	return fact{
		o: switches(aoaisim.Switches{Throttled: scenario}),
		test: func(c *client) {
			c.send(http.MethodPost, throttleAt, `{"messages":[{"role":"user","content":"x"}],"max_tokens":5900}`)
			o := c.send(http.MethodPost, throttleAt, `{"messages":[{"role":"user","content":"x"}],"max_tokens":3000}`)
			c.want(o, 429, texts...)
			for name, value := range headers {
				if got := o.header.Get(name); got != value {
					c.t.Errorf("%s: %q, want %q", name, got, value)
				}
			}
		},
	}
}

func (f fact) about(id, what, source string) fact {
	f.id, f.fact, f.source = id, what, source
	return f
}

// takes is plays for an answer that takes a time.
func takes(scenario string, d time.Duration, status int) func(c *client) {
	return func(c *client) {
		if o := c.play(scenario, chatAt, chatBody); o.status != status || o.whole != d {
			c.t.Errorf("%s: %d after %v, want %d after %v", scenario, o.status, o.whole, status, d)
		}
	}
}

// errorFacts are the forms of errors.
var errorFacts = []fact{
	{
		id: "2.1", fact: "the reason phrase of HTTP/1.1 is not the standard one", source: "run-llama/llama_index#14882 (recorded 2024)",
		test: func(c *client) {
			c.want(c.play("error/model-error", chatAt, chatBody), 500, "invalid content")
			c.want(c.play("error/model-error-400", chatAt, chatBody), 400)
		},
	},
	{
		id: "2.2", fact: "a wrong key", source: "many public reports (recorded)",
		test: func(c *client) {
			c.want(c.send(http.MethodPost, chatAt, chatBody, "Api-Key=wrong"), 401, `{"error":{"code":"401","message":"Access denied due to invalid`)
		},
	},
	{
		id: "2.3", fact: "a wrong token has a shape of its own", source: "instructor's documentation (recorded)",
		test: func(c *client) {
			c.want(c.send(http.MethodPost, chatAt, chatBody, "Api-Key=", "Authorization=Bearer x"), 401,
				`{"statusCode":401,"message":"Unauthorized. Access token`)
		},
	},
	{
		id: "2.4", fact: "a missing role is a 401, for one operation and not for another", source: "Microsoft's agent samples (recorded)",
		test: all(plays("error/missing-role", responseAt, respBody, 401, "PermissionDenied", "responses/write"), says(chatAt, chatBody, 200)),
	},
	{
		id: "2.5", fact: "a new role works now and then for minutes", source: "Microsoft's agent samples (reported)",
		test: func(c *client) {
			c.region.Fault(aoaisim.Fault{Do: aoaisim.DoScenario, Scenario: "error/missing-role-short", Probability: 0.5})
			seen := map[int]bool{}
			for range 40 {
				seen[c.send(http.MethodPost, chatAt, chatBody).status] = true
			}
			if !seen[200] || !seen[401] {
				c.t.Errorf("%v", seen)
			}
		},
	},
	{
		id: "2.6", fact: "keys are switched off", source: "tests of public clients (reported)",
		test: plays("error/keys-off", chatAt, chatBody, 403, "AuthenticationTypeDisabled"),
	},
	{
		id: "2.7", fact: "public access is off; a blank stands before the message", source: "a guide with curl's output (recorded)",
		test: plays("error/public-access-off", chatAt, chatBody, 403, `"message": "Public access is disabled.`),
	},
	{
		id: "2.8", fact: "the firewall refuses, or the name is registered wrongly", source: "Microsoft's private-network samples (recorded)",
		test: all(plays("error/firewall", chatAt, chatBody, 403, "Virtual Network/Firewall"),
			plays("error/subdomain", chatAt, chatBody, 404, "Subdomain")),
	},
	{
		id: "2.9", fact: "the whole resource is blocked for abuse", source: "a public test; troubleshoot-errors.md (recorded)",
		test: func(c *client) {
			c.region.Fault(aoaisim.Fault{Do: aoaisim.DoScenario, Scenario: "error/blocked"})
			for _, model := range []string{"chat", "mini"} {
				c.want(c.send(http.MethodPost, responseAt, `{"model":"`+model+`","input":"x"}`), 403, "temporarily blocked", "!code")
			}
			c.want(c.send(http.MethodGet, "/openai/v1/models", ""), 403)
		},
	},
	{
		id: "2.10", fact: "an unknown deployment on the classic surface", source: "Azure/azure-sdk-for-java, session-records (recorded 2023)",
		test: func(c *client) {
			o := c.send(http.MethodPost, strings.Replace(chatAt, "/chat/", "/nix/", 1), chatBody)
			c.want(o, 404, `"code":"DeploymentNotFound"`)
			if o.header.Get("OpenAI-Processing-Ms") != "9.1685" || o.header.Get("x-request-id") != "" ||
				o.header.Get("x-ratelimit-limit-tokens") != "" {
				c.t.Errorf("%v", o.header)
			}
		},
	},
	{
		id: "2.11", fact: "an unknown deployment on v1 has four forms",
		source: "joselcaguilar/azure-openai-ha#119, BerriAI/litellm#21378 (recorded)",
		test: all(
			says(chatV1, `{"model":"nix","messages":[]}`, 404, `"code":"DeploymentNotFound"`, `"type":"invalid_request_error"`),
			plays("error/deployment-missing-v1-404", chatAt, chatBody, 404, "Could not find an existing deployment", "user_error"),
			plays("error/deployment-missing-v1-400", chatAt, chatBody, 400, `"code":null`),
			plays("error/deployment-missing-v1-model", chatAt, chatBody, 404, "model_not_found"),
		),
	},
	{
		id: "2.12", fact: "a missing or unknown api-version", source: "many public reports (recorded)",
		test: all(
			says("/openai/deployments/chat/chat/completions", chatBody, 404, "Resource not found"),
			says("/openai/deployments/chat/chat/completions?api-version=someday", chatBody, 404, "Resource not found"),
		),
	},
	{
		id: "2.13", fact: "v1 takes no dated api-version", source: "openai/openai-node#1607 (recorded)",
		test: all(
			says(chatV1+"?api-version=2024-10-21", chatBody, 400, "API version not supported"),
			says(responseAt+"?api-version=preview", respBody, 200),
			says("/openai/deployments/chat/chat/completions?api-version=preview", chatBody, 404),
		),
	},
	{
		id: "2.14", fact: "a region may lack the Responses API", source: "responsibleai/ASSERT#129 (recorded)",
		o:    switches(aoaisim.Switches{NoResponses: true}),
		test: all(says(responseAt, respBody, 404, "Azure OpenAI Responses API is not enabled in this region"), says(chatAt, chatBody, 200)),
	},
	{
		id: "2.15", fact: "a model serves some operations only", source: "promptflow; tests of public clients (recorded)",
		test: all(
			says(chatV1, `{"model":"embed","messages":[{"role":"user","content":"x"}]}`, 400, "OperationNotSupported",
				"The chatCompletion operation does not work"),
			says(chatV1, `{"model":"pro","messages":[{"role":"user","content":"x"}]}`, 400, "OperationNotSupported"),
			says(responseAt, `{"model":"pro","input":"x"}`, 200),
		),
	},
	{
		id: "2.16", fact: "models refuse parameters", source: "nashsu/llm_wiki#610, a public benchmark (recorded)",
		test: all(
			says(chatV1, `{"model":"think","messages":[{"role":"user","content":"x"}],"max_tokens":5}`, 400, "unsupported_parameter",
				"'max_completion_tokens' instead"),
			says(responseAt, `{"model":"mini","input":"x","reasoning":{"effort":"low"}}`, 400, "unsupported_parameter", `"param":"reasoning"`),
		),
	},
	{
		id: "2.17", fact: "an error carries a traceback", source: "jekalmin/extended_openai_conversation#298 (recorded 2025)",
		test: plays("error/traceback", chatAt, chatBody, 400, `"callstack":"Traceback`),
	},
	{
		id: "2.18", fact: "the filter refuses a prompt of chat", source: "Azure/azure-sdk-for-go, content_filter_response_error.json (recorded)",
		test: plays("filtered-prompt", chatAt, chatBody, 400, `"status":400`, "ResponsibleAIPolicyViolation", `"content_filter_result":{`,
			`"type":null`),
	},
	{
		id: "2.19", fact: "the filter refuses a prompt of Responses", source: "a .NET test with a raw error (recorded)",
		test: plays("filtered-prompt", responseAt, respBody, 400, `"content_filters": [{"blocked":true,"source_type":"prompt"`, "!innererror",
			`!"status"`),
	},
	{
		id: "2.20", fact: "a prompt that was refused by the filter is charged", source: "content-streaming.md (documented)",
		test: func(c *client) {
			c.play("filtered-prompt", chatAt, chatBody)
			c.play("blocked", chatAt, chatStream)
			if n := c.region.Counts(); n.Charged.Prompt == 0 || n.Usage.Total != 0 {
				c.t.Errorf("%+v", n)
			}
		},
	},
	{
		id: "2.21", fact: "the filter is down, or every report has an empty error", source: "troubleshoot-errors.md; captures of 2024 (recorded)",
		test: all(
			plays("filter-down", chatAt, chatBody, 200, "content_filter_error"),
			plays("empty-filter-error", chatAt, chatStream, 200, `"error":{"code":"","message":""}`),
		),
	},
	{
		id: "2.22", fact: "a prompt is too long", source: "tests of openai/codex (recorded at OpenAI)",
		test: all(
			says(chatAt, `{"messages":[`+many(2, `{"role":"user","content":"`+strings.Repeat("word ", 60_000)+`"}`)+`]}`, 400,
				"context_length_exceeded", `"param":"messages"`),
			plays("context-in-stream", responseAt, respStream, 200, "response.failed", "context_length_exceeded"),
		),
	},
	{
		id: "2.23", fact: "a provisioned deployment has a smaller window",
		no: "the window belongs to the model here (2.22); which deployment has which does not matter",
	},
	{
		id: "2.24", fact: "a silent reasoning request ends with 408",
		source: "QuantumNous/new-api#1565 (reported)", test: takes("error/operation-timeout", 240*time.Second, 408),
	},
	{id: "2.25", fact: "409, 424 and 499", no: "no form is known; a fault of the kind status sends any body"},
	throttledIn("throttled-before-2025", map[string]string{"Retry-After": "30", "retry-after-ms": "29100"}, `"code":"429"`,
		"have exceeded token rate limit").
		about("2.26", "throttled in the words until 2025", "many public reports (recorded)"),
	throttledIn("throttled", map[string]string{"x-ratelimit-type": "Tokens"}, `"code":"RateLimitReached"`,
		"have exceeded the token rate limit", "AIServices S0").
		about("2.27", "throttled in the words since 2025", "icereed/paperless-gpt#814 (recorded)"),
	{
		id: "2.28", fact: "no capacity, without a wait", source: "a public benchmark of 2026; Microsoft Q&A (recorded)",
		test: func(c *client) {
			o := c.play("error/no-capacity", chatAt, chatBody)
			if c.want(o, 429, `"code":"NoCapacity"`, "high demand"); o.header.Get("Retry-After") != "" {
				c.t.Errorf("%v", o.header)
			}
			c.want(c.play("error/no-capacity-v1", chatAt, chatBody), 429, `"type":"too_many_requests"`, `"code":"no_capacity"`)
		},
	},
	{
		id: "2.29", fact: "a refusal for capacity is slow", source: "a public benchmark of 2026 (recorded)",
		test: all(takes("error/no-capacity", 2600*time.Millisecond, 429), takes("error/no-capacity-very-slow", 30800*time.Millisecond, 429)),
	},
	throttledIn("throttled-reset-header", map[string]string{"x-rate-limit-reset-tokens": "30", "Retry-After": ""}).
		about("2.30", "the wait stands in other headers", "openai/openai-python#937 (recorded)"),
	throttledIn("throttled-useless-wait", map[string]string{
		"Retry-After": "1", "retry-after-ms": "0",
		"x-ratelimit-renewalperiod-tokens": "60",
	}).
		about("2.31", "the stated wait is useless", "a header set of 2026; a public gateway's note (recorded)"),
	{
		id: "2.32", fact: "a day, or -1 in the headers", source: "public reports of 2025 (recorded)",
		test: func(c *client) {
			if o := c.play("error/throttled-for-a-day", chatAt, chatBody); o.header.Get("Retry-After") != "86400" {
				c.t.Errorf("%v", o.header)
			}
			if o := c.play("error/throttled-negative", chatAt, chatBody); o.header.Get("x-ratelimit-remaining-tokens") != "-1" ||
				o.header.Get("Retry-After") != "" {
				c.t.Errorf("%v", o.header)
			}
		},
	},
	{
		id: "2.33", fact: "a provisioned deployment is used up", source: "promptfoo#1612 (documented)",
		test: plays("error/throttled-provisioned", chatAt, chatBody, 429, "Try again in 4 seconds"),
	},
	{
		id: "2.34", fact: "a 500 names the request's id", source: "Azure-Samples/azure-search-openai-demo#1390 (recorded)",
		test: func(c *client) {
			o := c.play("error/server-error", chatAt, chatBody)
			c.want(o, 500, "server_error", "include the request ID "+o.header.Get("x-request-id")+" in")
			c.want(c.play("error/timed-out", chatAt, chatBody), 500, "Timed out")
		},
	},
	{
		id: "2.35", fact: "a 503 has the code of another status", source: "a LangChain forum thread (recorded)",
		test: plays("error/unavailable", chatAt, chatBody, 503, `"code":"InternalServerError"`),
	},
	{
		id: "2.36", fact: "errors that are no JSON, or nothing at all", source: "retry lists of two agents (reported)",
		test: func(c *client) {
			c.want(c.play("error/no-healthy-upstream", chatAt, chatBody), 503, "no healthy upstream", "!{")
			if o := c.play("error/empty", chatAt, chatBody); o.status != 500 || o.body != "" {
				c.t.Errorf("%d %q", o.status, o.body)
			}
			c.want(c.play("error/broken-json", chatAt, chatBody), 500)
		},
	},
	{
		id: "2.37", fact: "502 and 504 are pages", source: "browser-use#2517 (reported)",
		test: all(plays("error/502-page", chatAt, chatBody, 502, "<html>"), plays("error/504-page", chatAt, chatBody, 504,
			"upstream request timeout")),
	},
	{
		id: "2.38", fact: "the handshake of a realtime connection is throttled", source: "a load tester's notes (recorded)",
		test: plays("error/handshake-throttled", chatAt, chatBody, 429, "onHandshake Operation"),
	},
	{
		id: "2.39", fact: "a body that is no JSON", source: "public reports (recorded)",
		test: says(chatAt, "{", 400, "We could not parse the JSON body of your request.", `"code":null`),
	},
}
