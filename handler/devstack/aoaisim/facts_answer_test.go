package aoaisim_test

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"aoaigateway/handler/devstack/aoaisim"
)

// has checks headers, written name=value; an empty value means that the header is absent.
func has(path, body string, headers ...string) func(c *client) {
	return func(c *client) {
		c.t.Helper()
		o := c.send(http.MethodPost, path, body)
		for _, kv := range headers {
			if name, value, _ := strings.Cut(kv, "="); o.header.Get(name) != value {
				c.t.Errorf("%s: %q, want %q", name, o.header.Get(name), value)
			}
		}
	}
}

const cassette = "traceloop/openllmetry and crewAIInc/crewAI, cassettes of 2025 and 2026 (recorded)"

// headerFacts are the headers of good answers.
var headerFacts = []fact{
	{
		id: "3.1", fact: "the headers of chat", source: "an httpx debug log of 2025 (recorded)",
		test: has(chatAt, chatBody, "x-content-type-options=nosniff", "x-ms-rai-invoked=true", "x-accel-buffering=no",
			"Content-Type=application/json"),
	},
	{
		id: "3.2", fact: "Responses has another set", source: cassette,
		test: has(responseAt, respBody, "x-ratelimit-key=chat", "skip-error-remapping=true", "x-ms-deployment-name=", "azureml-model-session="),
	},
	{
		id: "3.3", fact: "newer headers of chat", source: cassette,
		test: has(chatAt, chatStream, "x-ms-served-model=gpt-4o-2024-11-20", "azureai-fe-is-streaming=True", "x-ms-is-spilled-over=false"),
	},
	{
		id: "3.4", fact: "the region's display name", source: "an httpx debug log of 2025; EvolvingPrograms/oaib#11 (recorded)",
		o: aoaisim.Options{Name: "swedencentral"}, test: has(chatAt, chatBody, "x-ms-region=Sweden Central"),
	},
	{
		id: "3.5", fact: "two ids differ", source: "EvolvingPrograms/oaib#11 (recorded)",
		test: func(c *client) {
			if h := c.send(http.MethodPost, chatAt, chatBody).header; h.Get("apim-request-id") == h.Get("x-request-id") ||
				h.Get("x-request-id") == "" {
				c.t.Errorf("%v", h)
			}
		},
	},
	{id: "3.6", fact: "Not-Set", source: cassette, test: has(chatAt, chatBody, "x-ms-client-request-id=Not-Set")},
	{
		id: "3.7", fact: "reset headers are integers, of milliseconds in March 2026", source: cassette,
		test: func(c *client) {
			h := c.send(http.MethodPost, throttleAt, `{"messages":[{"role":"user","content":"x"}],"max_tokens":595}`).header
			if h.Get("x-ratelimit-reset-tokens") != "6000" || h.Get("x-ratelimit-reset-requests") != "1000" ||
				h.Get("x-ratelimit-renewalperiod-tokens") != "60" {
				c.t.Errorf("%v", h)
			}
		},
	},
	{id: "3.8", fact: "remaining tokens are negative", source: "public reports (recorded)", test: func(c *client) {
		if o := c.play("throttled-in-stream", responseAt, respStream); o.header.Get("x-ratelimit-remaining-tokens") != "-27689" {
			c.t.Errorf("%v", o.header)
		}
	}},
	{
		id: "3.9", fact: "remaining values are stale",
		source: "EvolvingPrograms/oaib#11 (reported)", o: switches(aoaisim.Switches{StaleHeaders: true}),
		test: all(says(throttleAt, chatBody, 200), has(throttleAt, chatBody, "x-ratelimit-remaining-requests=59"),
			says(throttleAt, chatBody, 200),
			has(throttleAt, chatBody, "x-ratelimit-remaining-requests=59")),
	},
	{
		id: "3.10", fact: "the type of streams", source: cassette,
		test: has(chatAt, chatStream, "Content-Type=text/event-stream; charset=utf-8", "Cache-Control=", "x-accel-buffering=no"),
	},
	{
		id: "3.11", fact: "spillover names both deployments", source: "spillover-traffic-management.md (documented)",
		test: func(c *client) {
			o := c.send(http.MethodPost, chatAt, chatBody, "x-ms-spillover-deployment=mini")
			if o.header.Get("x-ms-spillover-from-deployment") != "chat" || o.header.Get("x-ms-deployment-name") != "mini" {
				c.t.Errorf("%v", o.header)
			}
			if o = c.play("error/spillover-failed", chatAt, chatBody); o.status != 429 || o.header.Get("x-ms-spillover-error") != "429" {
				c.t.Errorf("%d %v", o.status, o.header)
			}
		},
	},
	{
		id: "3.12", fact: "x-policy-id picks a filter",
		no: "a header of the request, which passes the gateway or not; the region's answer does not show it",
	},
	{
		id: "3.13", fact: "access-control-allow-origin in 2024",
		no: "browsers do not call through the gateway, and newer captures do not have it",
	},
}

// events returns the data of each event.
func events(o outcome) (list []string) {
	for e := range strings.SplitSeq(strings.TrimSuffix(o.body, "\n\n"), "\n\n") {
		_, data, _ := strings.Cut(e, "data: ")
		list = append(list, data)
	}
	return list
}

// longest returns the longest silence of an answer.
func longest(o outcome) time.Duration { return slices.Max(append(o.gaps, o.headers)) }

const filtered = `"hate":{"filtered":false`

// answerFacts are about answers and streams of chat.
var answerFacts = []fact{
	{
		id: "4.1", fact: "the order of a stream", source: cassette,
		test: func(c *client) {
			list := events(c.send(http.MethodPost, chatAt, strings.Replace(chatStream, ":20", ":2", 1)))
			for i, want := range []string{
				`"prompt_filter_results"`, `"role":"assistant"`, filtered, filtered, `"finish_reason":"stop"`,
				`"usage":{`, "[DONE]",
			} {
				if len(list) != 7 || !strings.Contains(list[i], want) {
					c.t.Fatalf("%d of %d: %s", i, len(list), list[min(i, len(list)-1)])
				}
			}
		},
	},
	{
		id: "4.2", fact: "obfuscation and usage null in every frame but the first", source: cassette,
		test: func(c *client) {
			for i, e := range events(c.send(http.MethodPost, chatAt, chatStream)) {
				if has := strings.Contains(e, `"obfuscation":"`); has != (i > 0 && e != "[DONE]") || i == 0 && strings.Contains(e, "usage") {
					c.t.Errorf("event %d: %s", i, e)
				}
			}
		},
	},
	{
		id: "4.3", fact: "service tier and timing of the newest models", source: "RomanEmreis/svir (recorded 2026)",
		test: plays("newest-members", chatAt, chatStream, 200, `"service_tier":"default","system_fingerprint":null`, "latency_checkpoint"),
	},
	{
		id: "4.4", fact: "chat says the versioned model, Responses the deployment", source: "crewAI, vercel/ai fixtures (recorded)",
		test: all(says(chatAt, chatBody, 200, `"model":"gpt-4o-2024-11-20"`), says(responseAt, respBody, 200, `"model": "chat"`)),
	},
	{
		id: "4.13", fact: "tool calls in pieces, reasoning with encrypted content", source: "vercel/ai fixtures (recorded)",
		test: all(
			plays("tool-call", chatAt, chatStream, 200, `"tool_calls":[{"function":{"arguments":"{\""},"index":0}]`, `"index":1`,
				`"finish_reason":"tool_calls"`),
			plays("tool-call", responseAt, respStream, 200, "response.function_call_arguments.delta", `"encrypted_content":"gAAAAA`,
				"reasoning_summary_text.delta"),
			plays("refusal", chatAt, chatStream, 200, `"delta":{"refusal":`), plays("refusal", responseAt, respStream, 200,
				"response.refusal.delta"),
			plays("annotations", responseAt, respStream, 200, "output_text.annotation.added"),
		),
	},
	{
		id: "4.14", fact: "a tool call of 15 minutes and 4.5 MB", source: "AntigmaLabs/ante#187 (reported)",
		test: func(c *client) {
			o := c.play("long-tool-call", responseAt, respStream)
			if o.whole != 899*time.Second+time.Second || len(o.body) < 4_400_000 || strings.Contains(o.body, "output_text") {
				c.t.Errorf("%d bytes in %v", len(o.body), o.whole)
			}
		},
	},
	{
		id: "4.19", fact: "an answer is held for a minute after its headers", source: "a public benchmark of 2026 (recorded)",
		test: func(c *client) {
			if o := c.play("held", chatAt, chatStream); o.headers != 0 || longest(o) != 62*time.Second || !strings.Contains(o.body, "[DONE]") {
				c.t.Errorf("headers after %v, longest silence %v", o.headers, longest(o))
			}
		},
	},
	{id: "4.20", fact: "the first token takes its time", source: "a public benchmark of 2026 (recorded)", test: func(c *client) {
		if o := c.play("slow", chatAt, chatStream); o.headers != 2*time.Second {
			c.t.Errorf("%v", o.headers)
		}
	}},
	{
		id: "4.22", fact: "an error frame first or later", source: "scalaone/azure-openai-proxy#22 (recorded)",
		test: all(
			plays("error-first", chatAt, chatStream, 200, "currently overloaded", "[DONE]"),
			plays("error-later", chatAt, chatStream, 200, `"error":{`, "![DONE]"),
		),
	},
	{
		id: "4.22a", fact: "a 200 whose body is an error", source: "QuantumNous/new-api, kubernetes-sigs/inference-perf#713 (reported)",
		test: all(plays("error-in-200", chatAt, chatBody, 200, `"code":"contentFilter"`),
			plays("failed", responseAt, respBody, 200, `"status":"failed"`)),
	},
	{
		id: "4.23", fact: "streams are cut", source: "openai/codex#11653, #25554, #43140 (reported)",
		test: func(c *client) {
			for _, name := range []string{"cut-reset", "cut-close"} {
				if o := c.play(name, responseAt, respStream); o.err == nil {
					c.t.Errorf("%s: a clean end", name)
				}
			}
			o := c.play("cut-end", responseAt, respStream)
			if c.want(o, 200, "!response.completed"); o.err != nil || len(events(o)) != 5 {
				c.t.Errorf("%v: %s", o.err, o.body)
			}
		},
	},
	{
		id: "4.26", fact: "cached prompts in steps of 1,024 tokens", source: "a public benchmark of 2026 (recorded)",
		test: says(chatAt, `{"messages":[{"role":"user","content":"`+strings.Repeat("word ", 1000)+`"}]}`, 200, `"cached_tokens":1024`),
	},
	{
		id: "4.27", fact: "halves of an emoji, usage in a choice", source: "public reports (recorded)",
		test: all(
			plays("split-emoji", chatAt, chatStream, 200, `"content":"\ud83d"`, `"content":"\ude0a"`),
			plays("usage-in-choice", chatAt, chatStream, 200, `"finish_reason":"stop","index":0,"usage":{`),
		),
	},
}

const recorded2026 = "RomanEmreis/svir, recorded streams of 2026 (recorded)"

// filterFacts are about the content filter in streams.
var filterFacts = []fact{
	{
		id: "4.5", fact: "reports have more members, in two orders", source: "pydantic/pydantic-ai, cassettes (recorded)",
		test: plays("filter-categories", chatAt, chatStream, 200, `"custom_blocklists":[]`, `"custom_blocklists":{"filtered":false`,
			"protected_material_code", "indirect_attack"),
	},
	{id: "4.6", fact: "text comes in bursts", source: "content-streaming.md, streamlit#8482 (documented)", test: func(c *client) {
		if o := c.play("burst", chatAt, chatStream); o.whole != 1600*time.Millisecond || longest(o) != 800*time.Millisecond {
			c.t.Errorf("%v in %v", o.gaps, o.whole)
		}
	}},
	{
		id: "4.7", fact: "blocked while it streams: no usage", source: recorded2026,
		test: plays("blocked", chatAt, chatStream, 200, `"finish_reason":"content_filter"`, "blood", "[DONE]", "!usage"),
	},
	{
		id: "4.8", fact: "annotations without a delta", source: recorded2026 + "; langchain#18977, autogen#6465",
		test: plays("asynchronous-filter", chatAt, chatStream, 200, `"choices":[{"content_filter_offsets":{`,
			`"created":0,"id":"","model":"","object":""`, `"usage":{`),
	},
	{
		id: "4.9", fact: "blocked by the asynchronous filter, also after the end", source: recorded2026,
		test: all(
			plays("asynchronous-block", chatAt, chatStream, 200, `"finish_reason":"content_filter"`, "!usage"),
			plays("block-after-stop", chatAt, chatStream, 200, `"filtered":true`, `"finish_reason":"stop"`, `"usage":{`, "!content_filter\""),
		),
	},
	{
		id: "4.10", fact: "offsets go back and forth", source: recorded2026,
		test: plays("asynchronous-filter", chatAt, chatStream, 200, `"start_offset":5,"end_offset":17`, `"start_offset":0,"end_offset":17`),
	},
	{
		id: "4.11", fact: "the first frame of 2023", source: "go-openai#448 (recorded 2023)",
		test: plays("filter-of-2023", chatAt, chatStream, 200, "prompt_annotations", "!refusal", `"usage":null`),
	},
	{
		id: "4.12", fact: "DeepSeek ends without [DONE]; reasoning tokens stand beside the details",
		source: "experientiallabs/experiential#962, vercel/ai (recorded)",
		test: all(
			plays("field/no-done-after-finish", chatV1, strings.Replace(chatStream, "{", `{"model":"deepseek",`, 1), 200, `"content_filter"`,
				"![DONE]"),
			plays("field/reasoning-tokens-beside", chatV1, strings.Replace(chatStream, "{", `{"model":"deepseek",`, 1), 200,
				`null,"reasoning_tokens":1200`),
		),
	},
}

// responsesFacts are about answers and streams of Responses.
var responsesFacts = []fact{
	{
		id: "4.15", fact: "numbers without gaps, obfuscation, two service tiers, no [DONE]", source: "vercel/ai fixtures (recorded)",
		test: func(c *client) {
			o := c.send(http.MethodPost, responseAt, respStream)
			c.want(o, 200, `"obfuscation":"`, `"service_tier":"auto"`, `"service_tier":"default"`, `"completed_at":`, "![DONE]")
			wantNumbers(c, o)
		},
	},
	{
		id: "4.16", fact: "keep-alive events take a number, after 30 s", source: "AntigmaLabs/ante#187, openai-node#1964 (recorded)",
		test: func(c *client) {
			o := c.play("keepalive", responseAt, respStream)
			c.want(o, 200, "event: keepalive\ndata: {\"type\":\"keepalive\",\"sequence_number\":2}", "response.completed")
			if wantNumbers(c, o); longest(o) != 30*time.Second {
				c.t.Errorf("longest silence %v", longest(o))
			}
		},
	},
	{id: "4.17", fact: "or nothing at all comes", source: "BerriAI/litellm#32763 (recorded)", test: func(c *client) {
		if o := c.play("silence", responseAt, respStream); longest(o) != 30*time.Second || strings.Contains(o.body, "keepalive") {
			c.t.Errorf("longest silence %v", longest(o))
		}
	}},
	{id: "4.18", fact: "silences of minutes", source: "AntigmaLabs/ante#187, openai/codex#39771 (reported)", test: func(c *client) {
		if o := c.play("long-silence", responseAt, respStream); longest(o) != 5*time.Minute {
			c.t.Errorf("longest silence %v", longest(o))
		}
	}},
	{
		id: "4.21", fact: "throttled inside a 200, in both orders, after 1 to 35 s",
		source: "openai/openai-python#2699, earendil-works/pi#7983; a public benchmark of 2026 (recorded)",
		test: func(c *client) {
			o := c.play("throttled-in-stream", responseAt, respStream)
			c.want(o, 200, `"error":{"type":"too_many_requests","code":"rate_limit_exceeded"`)
			if strings.Index(o.body, "event: error") > strings.Index(o.body, "response.failed") || o.header.Get("Retry-After") != "4" ||
				o.headers != 0 {
				c.t.Errorf("%v %s", o.header, o.body)
			}
			o = c.play("throttled-in-stream-failed-first", responseAt, respStream)
			if strings.Index(o.body, "event: error") < strings.Index(o.body, "response.failed") {
				c.t.Errorf("%s", o.body)
			}
			if o = c.play("no-capacity-in-stream", responseAt, respStream); longest(o) != 34500*time.Millisecond {
				c.t.Errorf("%v", o.gaps)
			}
			if n := c.region.Counts(); n.Usage.Total+n.Partial.Total+n.Charged.Total != 0 {
				c.t.Errorf("charged: %+v", n)
			}
		},
	},
	{
		id: "4.24", fact: "a whole answer is indented and ASCII, with content_filters", source: "crewAI, cassettes (recorded)",
		test: func(c *client) {
			o := c.send(http.MethodPost, responseAt, `{"model":"chat","input":"[tokens:300]"}`)
			c.want(o, 200, "{\n  \"id\": \"resp_", `"content_filter_raw": null`, `\ud83d\ude42`, `"source_type": "completion"`)
			if strings.ContainsFunc(o.body, func(r rune) bool { return r > 127 }) {
				c.t.Error("not ASCII")
			}
		},
	},
	{
		id: "4.25", fact: "instructions and tools are echoed in three events", source: "crewAI, vercel/ai (recorded)",
		test: func(c *client) {
			body := strings.Replace(respStream, "{", `{"instructions":"be brief","tools":[{"type":"function","name":"f"}],"store":false,`, 1)
			o := c.send(http.MethodPost, responseAt, body)
			for _, echo := range []string{`"instructions":"be brief"`, `"tools":[{"type":"function","name":"f"}]`, `"store":false`} {
				if n := strings.Count(o.body, echo); n != 3 {
					c.t.Errorf("%s: %d times", echo, n)
				}
			}
			c.want(o, 200, `"prompt_cache_key":`, `"safety_identifier":`, `"verbosity":"medium"`, `"max_tool_calls":`)
		},
	},
}
