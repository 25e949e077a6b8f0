package aoaisim_test

import (
	"fmt"
	"net/http"
	"time"

	"aoaigateway/handler/devstack/aoaisim"
)

// ask sends a small chat request to the limited deployment and returns the status.
func ask(c *client, maxTokens int) int {
	limit := ""
	if maxTokens > 0 {
		limit = fmt.Sprintf(`,"max_tokens":%d`, maxTokens)
	}
	return c.send(http.MethodPost, throttleAt, `{"messages":[{"role":"user","content":"twelve bytes"}]`+limit+`}`).status
}

// remaining returns the remaining tokens after one more request.
func remaining(c *client, maxTokens string) string {
	return c.send(http.MethodPost, throttleAt,
		`{"messages":[{"role":"user","content":"twelve bytes"}]`+maxTokens+`}`).header.Get("x-ratelimit-remaining-tokens")
}

// limitFacts are about rate limits.
var limitFacts = []fact{
	{id: "7.1", fact: "admission costs an estimate of prompt and max_tokens", source: "quota.md (documented)", test: func(c *client) {
		if got := remaining(c, `,"max_tokens":100`); got != "5893" { // 3 of the text, 4 of the message, 100
			c.t.Error(got)
		}
	}},
	{
		id: "7.1a", fact: "nothing is held for the output without max_tokens",
		source: "traceloop/openllmetry, cassettes (recorded 2025, 2026)", test: func(c *client) {
			if got := remaining(c, ""); got != "5993" {
				c.t.Error(got)
			}
		},
	},
	{
		id: "7.2", fact: "or max_tokens alone, 16 if it is absent", source: "microsoft/aoai-api-simulator (reported 2024)",
		o: switches(aoaisim.Switches{MaxTokensOnly: true}),
		test: func(c *client) {
			if a, b := remaining(c, `,"max_tokens":100`), remaining(c, ""); a != "5900" || b != "5884" {
				c.t.Error(a, b)
			}
		},
	},
	{
		id: "7.3", fact: "tokens come back evenly, or all at once each minute",
		source: "quota.md (documented) against cassettes of 2026 (recorded)",
		o:      switches(aoaisim.Switches{MinuteReset: true}),
		test: func(c *client) {
			if a, b := ask(c, 5900), ask(c, 5900); a != 200 || b != 429 {
				c.t.Error(a, b)
			}
			time.Sleep(59 * time.Second)
			if a := ask(c, 1000); a != 429 {
				c.t.Error(a)
			}
			time.Sleep(time.Second)
			if a := ask(c, 5900); a != 200 {
				c.t.Error(a)
			}
			even := another(c)
			ask(even, 5900)
			time.Sleep(30 * time.Second)
			if a := ask(even, 2900); a != 200 {
				c.t.Error(a)
			}
		},
	},
	{
		id: "7.4", fact: "requests are counted in slices of 1 or 10 s", source: "quota.md (documented); a header table (recorded)",
		test: func(c *client) {
			for n := range 12 {
				if status := ask(c, 1); (status == 200) != (n < 10) {
					c.t.Errorf("request %d: %d", n, status)
				}
			}
			time.Sleep(10 * time.Second)
			if status := ask(c, 1); status != 200 {
				c.t.Error(status)
			}
		},
	},
	{id: "7.5", fact: "requests follow from tokens", no: "a test chooses both limits"},
	{
		id: "7.6", fact: "deployments of a region share a quota",
		no: "the gateway learns of limits by deployment; which of them share one makes no difference",
	},
	{id: "7.7", fact: "a request larger than the limit never passes", source: "public logs (reported)", test: func(c *client) {
		if o := c.send(http.MethodPost, throttleAt,
			`{"messages":[{"role":"user","content":"x"}],"max_tokens":7000}`); o.header.Get("Retry-After") != "86400" {
			c.t.Errorf("%d %v", o.status, o.header)
		}
	}},
	{id: "7.8", fact: "above a monthly tier latency doubles", source: "quotas-limits.md (documented)", test: func(c *client) {
		c.region.Fault(aoaisim.Fault{Do: aoaisim.DoSlow, Millis: 40})
		if o := c.send(http.MethodPost, chatAt, chatStream); o.status != 200 || o.whole < 20*40*time.Millisecond {
			c.t.Errorf("%v", o.whole)
		}
	}},
	{id: "7.9", fact: "refused requests count", source: "concluded from quota.md", test: func(c *client) {
		for range 20 {
			ask(c, 1)
		}
		if left := c.send(http.MethodPost, throttleAt, chatBody).header.Get("x-ratelimit-remaining-requests"); left != "39" {
			c.t.Errorf("%s requests are left", left)
		}
	}},
	{id: "7.10", fact: "images and audio have limits of requests only", no: "the gateway does not meter them"},
}
