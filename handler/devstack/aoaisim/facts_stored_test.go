package aoaisim_test

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing/synctest"
	"time"

	"github.com/tidwall/gjson"

	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/devstack/aoaisim/wire"
)

// wantNumbers checks that the events of a Responses stream are numbered without gaps.
func wantNumbers(c *client, o outcome) {
	c.t.Helper()
	for i, e := range events(o) {
		if n := gjson.Get(e, "sequence_number"); !n.Exists() || n.Int() != int64(i) {
			c.t.Errorf("event %d has the number %s: %s", i, n.Raw, e)
		}
	}
}

// another is a second region with the same deployments.
func another(c *client) *client {
	return newClient(c.t, aoaisim.Options{
		Name: "westeurope", Key: key, Deployments: testDeployments,
		Wire: wire.Options{Plain: c.scheme == "http"},
	})
}

// made creates a response with a tool call and returns it.
func made(c *client) gjson.Result {
	c.t.Helper()
	o := c.play("tool-call", responseAt, `{"model":"think","input":"x"}`)
	if c.want(o, 200); o.status != 200 {
		c.t.FailNow()
	}
	return gjson.Parse(o.body)
}

func follow(items, rest string) string {
	return `{"model":"think","input":[` + items + `]` + rest + `}`
}

const sixProjects = "tests and notes of six public projects, one with a pool behind API Management (recorded since July 2026)"

// storedFacts are about what a region stores.
var storedFacts = []fact{
	{
		id: "5.1", fact: "the form of ids; no region can be read from them", source: "six ids of vercel/ai, crewAI and responses.md (concluded)",
		test: func(c *client) {
			r := gjson.Parse(c.send(http.MethodPost, responseAt, respBody).body)
			form := regexp.MustCompile(`^(resp|msg)_([0-9a-f]{16})(00)([0-9a-f]{8})819[0-9a-f]{21}$`)
			a, b := form.FindStringSubmatch(r.Get("id").Str), form.FindStringSubmatch(r.Get("output.0.id").Str)
			if a == nil || b == nil || a[2] != b[2] || a[4] != fmt.Sprintf("%08x", r.Get("created_at").Int()) {
				c.t.Errorf("%s %s", r.Get("id"), r.Get("output.0.id"))
			}
		},
	},
	{
		id: "5.2", fact: "the form of other ids", source: "batch.md, captures (recorded)",
		test: func(c *client) {
			for path, form := range map[string]string{
				"/openai/v1/files": `^assistant-[0-9a-f]{32}$`, "/openai/v1/batches": `^batch_[0-9a-f]{8}-[0-9a-f-]{27}$`,
			} {
				if id := gjson.Get(c.send(http.MethodPost, path, "").body, "id").Str; !regexp.MustCompile(form).MatchString(id) {
					c.t.Errorf("%s: %s", path, id)
				}
			}
			if id := gjson.Get(c.send(http.MethodPost, chatAt, chatBody).body, "id").Str; len(id) != len("chatcmpl-")+29 {
				c.t.Error(id)
			}
			if id := gjson.Get(c.send(http.MethodPost, "/openai/v1/files", "purpose=batch").body, "id").Str; !strings.HasPrefix(id, "file-") {
				c.t.Error(id)
			}
		},
	},
	{
		id: "5.3", fact: "a response of another region is not found", source: "microsoft/agent-framework#6419 (recorded)",
		test: func(c *client) {
			id, other := made(c).Get("id").Str, another(c)
			body := `{"model":"think","input":"x","previous_response_id":"` + id + `"}`
			other.want(other.send(http.MethodPost, responseAt, body), 400, "previous_response_not_found",
				"Previous response with id '"+id+"' not found.")
			other.want(other.send(http.MethodGet, responseAt+"/"+id, ""), 404)
		},
	},
	{
		id: "5.4", fact: "items bind to their region", source: sixProjects,
		test: func(c *client) {
			r, other := made(c), another(c)
			c.want(c.send(http.MethodGet, responseAt+"/"+r.Get("id").Str, ""), 200)
			for _, item := range []string{
				`{"type":"function_call","id":"` + r.Get("output.1.id").Str + `","call_id":"c","name":"f","arguments":"{}"}`,
				`{"type":"item_reference","id":"` + r.Get("output.0.id").Str + `"}`,
			} {
				c.want(c.send(http.MethodPost, responseAt, follow(item, "")), 200)
				other.want(other.send(http.MethodPost, responseAt, follow(item, "")), 400,
					"created under a different Azure OpenAI resource", `"param":"","code":null`)
			}
		},
	},
	{
		id: "5.5", fact: "encrypted content binds to its region", source: "openai/codex#9045, #11653, openai-agents-python#2063 (recorded)",
		test: func(c *client) {
			item := `{"type":"reasoning","summary":[],"encrypted_content":"` + made(c).Get("output.0.encrypted_content").Str + `"}`
			other := another(c)
			c.want(c.send(http.MethodPost, responseAt, follow(item, "")), 200)
			other.want(other.send(http.MethodPost, responseAt, follow(item, "")), 400, "invalid_encrypted_content", "could not be verified")
		},
	},
	{
		id: "5.6", fact: "without storage ids do not bind, encrypted content does", source: "notes of three projects (reported)",
		test: func(c *client) {
			r, other := made(c), another(c)
			item := `{"type":"function_call","id":"` + r.Get("output.1.id").Str + `","call_id":"c","name":"f","arguments":"{}"}`
			other.want(other.send(http.MethodPost, responseAt, follow(item, `,"store":false`)), 200)
			item = `{"type":"reasoning","summary":[],"encrypted_content":"` + r.Get("output.0.encrypted_content").Str + `"}`
			other.want(other.send(http.MethodPost, responseAt, follow(item, `,"store":false`)), 400, "invalid_encrypted_content")
		},
	},
	{
		id: "5.7", fact: "a stored response is not found for a moment", source: "dotnet/extensions#7704, earendil-works/pi#5524 (recorded)",
		o: switches(aoaisim.Switches{StoreDelay: 300 * time.Millisecond}),
		test: func(c *client) {
			r := gjson.Parse(c.send(http.MethodPost, responseAt, respBody).body)
			next := `{"model":"chat","input":"x","previous_response_id":"` + r.Get("id").Str + `"}`
			item := `{"model":"chat","input":[{"type":"message","role":"assistant","id":"` + r.Get("output.0.id").Str + `","content":"x"}]}`
			c.want(c.send(http.MethodPost, responseAt, next), 400, "previous_response_not_found")
			c.want(c.send(http.MethodPost, responseAt, item), 400, "Item with id '"+r.Get("output.0.id").Str+"' not found.")
			time.Sleep(300 * time.Millisecond)
			c.want(c.send(http.MethodPost, responseAt, next), 200)
			c.want(c.send(http.MethodPost, responseAt, item), 200)
		},
	},
	{
		id: "5.8", fact: "a model without reasoning has no encrypted content", source: "pydantic-ai#2915, pi#6228 (recorded)",
		test: all(
			says(responseAt, `{"model":"chat","input":"x","include":["reasoning.encrypted_content"]}`, 400,
				"Encrypted content is not supported with this model.", `"param":"include"`),
			says(responseAt, `{"model":"think","input":"x","include":["reasoning.encrypted_content"]}`, 200),
		),
	},
	{
		id: "5.9", fact: "GET, DELETE and input_items of a stored response; what is not stored is not found", source: "responses.md (documented)",
		test: func(c *client) {
			at := responseAt + "/" + gjson.Get(c.send(http.MethodPost, responseAt, respBody).body, "id").Str
			c.want(c.send(http.MethodGet, at, ""), 200, `"status": "completed"`)
			c.want(c.send(http.MethodGet, at+"/input_items", ""), 200)
			c.want(c.send(http.MethodPost, at+"/cancel", ""), 400)
			c.want(c.send(http.MethodDelete, at, ""), 200)
			c.want(c.send(http.MethodGet, at, ""), 404)
			forgotten := c.send(http.MethodPost, responseAt, strings.Replace(respBody, "{", `{"store":false,`, 1))
			c.want(c.send(http.MethodGet, responseAt+"/"+gjson.Get(forgotten.body, "id").Str, ""), 404)
		},
	},
	{id: "5.10", fact: "background responses", source: "azure-sdk-for-python#46015, responses.md (reported)", test: background},
	{
		id: "5.11", fact: "the stages of a batch", source: "batch.md (documented)",
		test: func(c *client) {
			at := "/openai/v1/batches/" + gjson.Get(c.send(http.MethodPost, "/openai/v1/batches", "{}").body, "id").Str
			for _, want := range []string{"validating", "in_progress", "finalizing", "completed"} {
				c.want(c.send(http.MethodGet, at, ""), 200, want)
				time.Sleep(time.Second)
			}
		},
	},
	{
		id: "5.12", fact: "conversations, files and containers of another region",
		source: "nothing is recorded at Azure; the public OpenAI API (concluded)",
		test: func(c *client) {
			other := another(c)
			conversation := gjson.Get(c.send(http.MethodPost, "/openai/v1/conversations", "{}").body, "id").Str
			file := gjson.Get(c.send(http.MethodPost, "/openai/v1/files", "").body, "id").Str
			for _, body := range []string{
				`{"model":"chat","input":"x","conversation":"` + conversation + `"}`,
				`{"model":"chat","input":[{"role":"user","content":[{"type":"input_file","file_id":"` + file + `"}]}]}`,
			} {
				c.want(c.send(http.MethodPost, responseAt, body), 200)
				other.want(other.send(http.MethodPost, responseAt, body), 404)
			}
			container := gjson.Get(c.send(http.MethodPost, "/openai/v1/containers", "{}").body, "id").Str
			other.want(other.send(http.MethodGet, "/openai/v1/containers/"+container, ""), 404)
		},
	},
}

// background polls one background response, cancels another, and resumes the stream of a
// third.
func background(c *client) {
	body := strings.Replace(respBody, "{", `{"background":true,`, 1)
	o := c.send(http.MethodPost, responseAt, body)
	c.want(o, 200, `"status": "queued"`, `"background": true`, `"usage": null`)
	at := responseAt + "/" + gjson.Get(o.body, "id").Str
	time.Sleep(time.Second)
	c.want(c.send(http.MethodGet, at, ""), 200, `"status": "in_progress"`)
	time.Sleep(time.Second)
	c.want(c.send(http.MethodGet, at, ""), 200, `"status": "completed"`, `"output_text"`)

	at = responseAt + "/" + gjson.Get(c.send(http.MethodPost, responseAt, body).body, "id").Str
	c.want(c.send(http.MethodPost, at+"/cancel", ""), 200, `"status": "cancelled"`)
	time.Sleep(5 * time.Second)
	c.want(c.send(http.MethodGet, at, ""), 200, `"status": "cancelled"`)

	ctx, leave := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer leave()
	first := c.sendWithin(ctx, http.MethodPost, responseAt, strings.Replace(body, "{", `{"stream":true,`, 1))
	list := events(first)
	id := gjson.Get(list[0], "response.id").Str
	last := 0
	for _, e := range list {
		if n := gjson.Get(e, "sequence_number"); n.Exists() && gjson.Valid(e) {
			last = int(n.Int())
		}
	}
	rest := c.send(http.MethodGet, fmt.Sprintf("%s/%s?stream=true&starting_after=%d", responseAt, id, last), "")
	c.want(rest, 200, "response.completed")
	if n := gjson.Get(events(rest)[0], "sequence_number").Int(); first.err == nil || n != int64(last+1) {
		c.t.Errorf("%v: resumed at %d after %d", first.err, n, last)
	}
}

// wireFacts are about connections.
var wireFacts = []fact{
	{
		id: "6.1", fact: "kept connections die in silence, or are reset at the next request",
		source: "Azure/azure-sdk-for-java#37773, openai-python#371 (reported)",
		o:      aoaisim.Options{Wire: wire.Options{Idle: 10 * time.Minute}},
		test:   deadConnection,
	},
	{
		id: "6.2", fact: "streams end with RST_STREAM of any code",
		source: "Azure/enterprise-azureai#78 (reported) for INTERNAL_ERROR", secure: true,
		test: func(c *client) {
			for name, code := range map[string]string{
				"internal-error": "INTERNAL_ERROR", "cancel": "CANCEL", "enhance-your-calm": "ENHANCE_YOUR_CALM", "refused-stream": "REFUSED_STREAM",
			} {
				if o := c.play("cut-rst-"+name, responseAt, respStream); o.err == nil || !strings.Contains(fmt.Sprint(o.err), code) {
					c.t.Errorf("%s: %v", name, o.err)
				}
			}
			c.want(c.send(http.MethodPost, chatAt, chatBody), 200)
			if n := c.region.Counts(); n.Cut != 4 || n.Partial.Prompt == 0 {
				c.t.Errorf("%+v", n)
			}
			if c.pipes.dials != 1 {
				c.t.Errorf("%d connections", c.pipes.dials)
			}
		},
	},
	{
		id: "6.3", fact: "GOAWAY, a limit of streams, a stalled connection", source: "nothing is recorded at Azure; RFC 9113", secure: true,
		o: aoaisim.Options{
			Wire: wire.Options{Streams: 2},
		}, test: shared,
	},
	{
		id: "6.4", fact: "the front is silent while it waits for a back end", source: "a public benchmark of 2026 (recorded)",
		test: plays("held", responseAt, respStream, 200, "response.completed"),
	},
	{
		id: "6.5", fact: "answers are gzipped when asked, streams too", source: "public reports, among them Kong#14893 (reported)",
		test: func(c *client) {
			for _, body := range []string{chatBody, chatStream} {
				o := c.send(http.MethodPost, chatAt, body, "Accept-Encoding=gzip")
				unzipped, err := gzip.NewReader(strings.NewReader(o.body))
				if err != nil || o.header.Get("Content-Encoding") != "gzip" {
					c.t.Fatalf("%v: %v %q", err, o.header, o.body)
				}
				if text, err := io.ReadAll(unzipped); err != nil || !strings.Contains(string(text), "choices") {
					c.t.Errorf("%v: %s", err, text)
				}
			}
		},
	},
	{
		id: "6.6", fact: "multi-byte characters are split over segments", source: "public reports (reported)",
		test: func(c *client) {
			c.region.Fault(aoaisim.Fault{Do: aoaisim.DoSplit, Bytes: 3, Times: 1})
			c.want(c.send(http.MethodPost, chatAt, strings.Replace(chatStream, ":20", ":200", 1)), 200, "東京", "[DONE]")
		},
	},
}

// deadConnection uses a kept connection after eleven idle minutes, over HTTP/1.1. Over HTTP/2
// the pings of the client keep it awake.
func deadConnection(c *client) {
	c.want(c.send(http.MethodPost, chatAt, chatBody), 200)
	time.Sleep(11 * time.Minute)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if o := c.sendWithin(ctx, http.MethodPost, chatAt, chatBody); o.err == nil || o.whole != time.Minute {
		c.t.Errorf("%d after %v", o.status, o.whole)
	}
	c.want(c.send(http.MethodPost, chatAt, chatBody), 200)

	resets := newClient(c.t, aoaisim.Options{
		Key: key, Deployments: testDeployments,
		Wire: wire.Options{Plain: true, Idle: time.Minute, IdleReset: true},
	})
	resets.want(resets.send(http.MethodPost, chatAt, chatBody), 200)
	time.Sleep(2 * time.Minute)
	if o := resets.send(http.MethodPost, chatAt, chatBody); o.err == nil || o.whole != 0 {
		c.t.Errorf("%d after %v", o.status, o.whole)
	}
}

// shared shows what happens to the streams of one connection.
func shared(c *client) {
	c.want(c.play("goaway", responseAt, respStream), 200, "response.completed")
	c.want(c.send(http.MethodPost, chatAt, chatBody), 200)
	if c.pipes.dials != 2 {
		c.t.Errorf("%d connections after GOAWAY", c.pipes.dials)
	}
	c.region.Fault(aoaisim.Fault{Do: aoaisim.DoHang, Millis: 1000, Times: 3})
	done := make(chan outcome)
	for range 3 {
		go func() { done <- c.send(http.MethodPost, chatAt, chatBody) }()
	}
	synctest.Wait()
	if open := c.region.Counts().Open; open != 3 || c.pipes.dials != 3 {
		c.t.Errorf("%d streams on %d connections, with a limit of 2", open, c.pipes.dials)
	}
	for range 3 {
		c.want(<-done, 200)
	}
	if o := c.play("stall", responseAt, respStream); o.err == nil || o.whole < 20*time.Second || o.whole > time.Minute {
		c.t.Errorf("%v after %v", o.err, o.whole)
	}
	if o := c.play("goaway-error", responseAt, respStream); o.err == nil {
		c.t.Error("a clean end")
	}
}
