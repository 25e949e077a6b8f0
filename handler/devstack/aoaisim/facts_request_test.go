package aoaisim_test

import (
	"fmt"
	"net/http"
	"strings"

	"aoaigateway/handler/devstack/aoaisim"
)

const (
	imagePart = `{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}`
	quotas    = "Microsoft, quotas-limits.md (documented)"
)

func tools(n int) string {
	tool := many(n, `{"type":"function","function":{"name":"f"}}`)
	return `{"messages":[{"role":"user","content":"x"}],"tools":[` + tool + `]}`
}

func inputs(n int) string { return `{"model":"embed","input":[` + many(n, `"a"`) + `]}` }

func metadata(n int) string {
	var pairs []string
	for i := range n {
		pairs = append(pairs, fmt.Sprintf(`"k%d":"v"`, i))
	}
	return `{"model":"chat","input":"x","metadata":{` + strings.Join(pairs, ",") + `}}`
}

// customHeaders sends n headers of the caller's own.
func customHeaders(c *client, n int) outcome {
	var headers []string
	for i := range n {
		headers = append(headers, fmt.Sprintf("X-Own-%d=v%d", i, i))
	}
	return c.send(http.MethodPost, chatAt, chatBody, headers...)
}

// requestFacts are the limits of a request.
var requestFacts = []fact{
	{
		id: "1.1", fact: "50 images, counted over the whole history", source: "Azure/azure-rest-api-specs#46145 (recorded)",
		test: all(
			says(chatAt, message(many(50, imagePart)), 200),
			says(chatAt, message(many(51, imagePart)), 400, `"Exceeded maximum number of images (50) allowed in the request."`, `"param":"input"`),
			says(responseAt, `{"model":"chat","input":[{"role":"user","content":[`+many(51,
				`{"type":"input_image","image_url":"data:,"}`)+`]}]}`, 400,
				"Exceeded maximum number of images"),
		),
	},
	{
		id: "1.2", fact: "the endpoint of a Foundry project takes data URIs of 65,520 characters only",
		source: "Azure/azure-sdk-for-python#48364 (recorded)", o: switches(aoaisim.Switches{ProjectURIs: true}),
		test: says(chatAt, message(strings.Replace(imagePart, "AA==", strings.Repeat("A", 65_520), 1)), 400, "invalid_payload",
			"is not a valid absolute URI"),
	},
	{
		id: "1.3", fact: "128 tools", source: "quotas-limits.md (documented), the words of the public OpenAI API (concluded)",
		test: all(says(chatAt, tools(128), 200), says(chatAt, tools(129), 400, "array_above_max_length", `"param":"tools"`,
			"length 129 instead")),
	},
	{
		id: "1.4", fact: "a reasoning item carries no plain text", source: "tests of several public clients (recorded)",
		test: says(responseAt, `{"model":"think","input":[{"type":"reasoning","content":[{"type":"reasoning_text","text":"x"}]}]}`, 400,
			"array_above_max_length", `"param":"input[0].content"`, "maximum length 0"),
	},
	{
		id: "1.5", fact: "2,048 messages of 1,048,576 characters", source: quotas,
		test: all(
			says(chatAt, `{"messages":[`+many(2049, `{"role":"user","content":"x"}`)+`]}`, 400, "array_above_max_length", `"param":"messages"`),
			says(chatAt, `{"messages":[{"role":"user","content":"`+strings.Repeat("x", 1<<20+1)+`"}]}`, 400, "string_above_max_length"),
		),
	},
	{
		id: "1.6", fact: "2,048 inputs of embeddings with 8,192 tokens each", source: "MicrosoftDocs/azure-docs#124129, #121545 (recorded)",
		test: all(
			says("/openai/v1/embeddings", inputs(2049), 400, "Too many inputs. The max number of inputs is 2048."),
			says("/openai/v1/embeddings", `{"model":"embed","input":"`+strings.Repeat("word", 8300)+`"}`, 400, "context_length_exceeded"),
		),
	},
	{
		id: "1.7", fact: "25 MB of audio, beyond that a 413 of type server_error",
		source: "retkowsky/Azure-AIGEN-demos#3, chidiwilliams/buzz#381 (recorded)",
		test: says("/openai/v1/audio/transcriptions", strings.Repeat("x", 25<<20+1), 413,
			"Maximum content size limit (26214400) exceeded (26214401 bytes read)", `"type":"server_error"`),
	},
	{id: "1.8", fact: "transcriptions over 4 MB failed in one library", no: "reported once, in 2024, without a cause"},
	{
		id: "1.9", fact: "20 MB of audio in a message, files of 512 MB, batches of 100,000 lines",
		no: "a gateway passes 413 and 400 as they come (1.7, 1.1); " +
			"files of this size take longer than all other tests together",
	},
	{
		id: "1.10", fact: "10 custom headers, which come back in the answer; more: 431", source: quotas,
		test: func(c *client) {
			o := customHeaders(c, 10)
			if c.want(o, 200); o.header.Get("X-Own-3") != "v3" {
				c.t.Errorf("%v", o.header)
			}
			c.want(customHeaders(c, 11), 431)
		},
	},
	{
		id: "1.11", fact: "431 is a page of the model's own server",
		source: "Azure-Samples/azure-search-openai-javascript#208, openai/openai-python#1096 (recorded 2024)",
		test: func(c *client) {
			o := customHeaders(c, 11)
			if c.want(o, 431, "<title>Request Header Fields Too Large</title>",
				"limit request headers fields"); o.header.Get("Content-Type") != "text/html" {
				c.t.Errorf("%v", o.header)
			}
			c.want(c.send(http.MethodPost, chatAt, chatBody, "X-Own="+strings.Repeat("x", 40_000)), 431, "limit request headers fields size")
		},
	},
	{
		id: "1.12", fact: "a long bearer token counts for the size of the headers", source: "concluded from 1.11",
		test: func(c *client) {
			c.want(c.send(http.MethodPost, chatAt, chatBody, "Api-Key=", "Authorization=Bearer "+strings.Repeat("x", 40_000)), 431)
		},
	},
	{
		id: "1.13", fact: "without a limit gpt-4o stops after 4,096 tokens", source: quotas,
		test: says(chatAt, `{"messages":[{"role":"user","content":"[tokens:5000]"}]}`, 200, `"finish_reason":"length"`,
			`"completion_tokens":4096`),
	},
	{id: "1.14", fact: "the largest body of JSON is not known", no: "no public capture of a 413 for JSON exists; a gateway passes any"},
	{
		id: "1.15", fact: "16 pairs of metadata, 64 characters of user", source: "the public OpenAI API (concluded)",
		test: all(
			says(responseAt, metadata(17), 400, "array_above_max_length", `"param":"metadata"`),
			says(responseAt, `{"model":"chat","input":"x","user":"`+strings.Repeat("u", 65)+`"}`, 400, "string_above_max_length"),
		),
	},
}
