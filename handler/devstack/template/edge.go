package template

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	// leastTimeout is what the Application Gateway must wait for, in seconds: the program gives
	// an answer up after GATEWAY_ANSWER_TIMEOUT, 220 s, and no stream is silent for longer.
	leastTimeout = 220
	// leastDrain is the least time, in seconds, that open streams get when the gateway changes (W12).
	leastDrain = 600
	rewriteSet = "${gatewayId}/rewriteRuleSets/requests"
	dots       = "^[^?]*([.][.]|%(25)*2e)" // W14: however often it is encoded
)

// edge is edge.bicep and what is wrong with it.
type edge struct {
	f     *file
	line  int
	found []Finding
}

func (c *edge) add(e *expr, format string, args ...any) {
	c.found = append(c.found, Finding{c.f.path, max(c.line, e.line()), fmt.Sprintf(format, args...)})
}

func (c *edge) need(e *expr, want, name string) {
	if e = c.f.resolve(e); e.text() != want {
		c.add(e, "%s must be %s, and is %q", name, want, e.text())
	}
}

// checkEdge holds the Application Gateway to what streams and records need of it.
func checkEdge(all templates) (found []Finding) {
	f := all["edge.bicep"]
	gateway, strict, prompts := f.find("resource", "gateway"), f.find("resource", "firewall"), f.find("resource", "promptsFirewall")
	if gateway == nil || strict == nil || prompts == nil {
		return []Finding{{"infra/edge.bicep", 0, "no Application Gateway, or not both firewall policies"}}
	}
	c := &edge{f: f, line: gateway.Line}
	p := gateway.body().prop("properties")
	c.need(p.at("globalConfiguration", "enableResponseBuffering"), "false", "enableResponseBuffering")
	c.need(first(p, "probes").prop("path"), "/healthz", "the probe's path")
	c.need(p.at("sku", "name"), "WAF_v2", "the gateway's SKU")
	c.need(p.at("sslPolicy", "policyName"), "AppGwSslPolicy20220101S", "the TLS policy")
	c.backend(first(p, "backendHttpSettingsCollection"))
	c.ports(p)
	c.rewrites(first(p, "rewriteRuleSets").prop("rewriteRules"))
	c.paths(p)
	c.line = strict.Line
	c.policy(strict.body().prop("properties"), "the strict policy")
	s := strict.body().at("properties", "policySettings")
	c.need(s.prop("requestBodyCheck"), "true", "requestBodyCheck of the strict policy (W4)")
	c.need(s.prop("requestBodyEnforcement"), "true", "requestBodyEnforcement of the strict policy")
	c.line = prompts.Line
	c.policy(prompts.body().prop("properties"), "the prompts' policy")
	s = prompts.body().at("properties", "policySettings")
	c.need(s.prop("requestBodyCheck"), "false", "requestBodyCheck of the prompts' policy (W1-W3, W5-W9: it takes code and logs for attacks)")
	c.need(s.prop("requestBodyEnforcement"), "false", "requestBodyEnforcement of the prompts' policy (prompts pass any size it knows)")
	c.need(s.prop("fileUploadEnforcement"), "false", "fileUploadEnforcement of the prompts' policy (W15)")
	c.logs()
	return c.found
}

func (c *edge) backend(p *expr) {
	c.need(p.prop("protocol"), "Https", "the protocol to the app")
	c.least(p.prop("requestTimeout"), leastTimeout, "requestTimeout")
	c.least(p.at("connectionDraining", "drainTimeoutInSec"), leastDrain, "drainTimeoutInSec") // W12
}

func (c *edge) least(e *expr, least int, name string) {
	if e == nil {
		c.add(e, "%s is missing", name)
	}
	e.walk(func(e *expr) {
		if n, err := strconv.Atoi(e.Text); e.Kind == "number" && (err != nil || n < least) {
			c.add(e, "%s %s is shorter than %d s, which answers and streams need", name, e.Text, least)
		}
	})
}

// ports: W16. A key that was sent to port 80 has crossed the network in clear.
func (c *edge) ports(p *expr) {
	p.prop("frontendPorts").walk(func(e *expr) {
		if e.Kind == "number" && e.Text != "443" {
			c.add(e, "port %s is open; clients use 443 only", e.Text)
		}
	})
}

func (c *edge) rewrites(rules *expr) {
	header := rewrite(rules, 0).at("requestHeaderConfigurations").item(0)
	c.need(header.prop("headerName"), "X-Gateway-Client-IP", "the first rewrite's header")
	c.need(header.prop("headerValue"), "{var_client_ip}", "the value of X-Gateway-Client-IP")
	// A19, W14: a pattern that meets every request sends every path through decoding.
	c.need(rules.item(1).prop("conditions").item(0).prop("pattern"), "^//+(openai/.*)", "the second rewrite's pattern")
	c.need(rewrite(rules, 1).at("urlConfiguration", "modifiedPath"), "/{var_uri_path_1}", "the second rewrite's path")
	c.need(rewrite(rules, 1).at("urlConfiguration", "reroute"), "true", "the second rewrite's reroute")
	for i, name := range []string{"Location", "Operation-Location", "Content-Location"} { // A12
		answer := rewrite(rules, 2+i).at("responseHeaderConfigurations").item(0)
		c.need(answer.prop("headerName"), name, "a rewritten header of answers")
		c.need(answer.prop("headerValue"), "https://{var_host}{http_resp_"+name+"_1}", "the value of "+name)
	}
}

// paths: M2. The strict policy holds for everything, the prompts' policy for /openai alone; both use the rewrites, without
// which a caller's own X-Gateway-Client-IP would be believed.
func (c *edge) paths(p *expr) {
	c.need(p.at("firewallPolicy", "id"), "firewall.id", "the gateway's own policy")
	rules := p.prop("requestRoutingRules")
	for i := range rules.count() {
		rule := rules.item(i).prop("properties")
		c.need(rule.prop("ruleType"), "PathBasedRouting", "the type of a routing rule")
		c.need(rule.at("urlPathMap", "id"), "${gatewayId}/urlPathMaps/paths", "the path map of a routing rule")
	}
	paths := first(p, "urlPathMaps")
	c.need(paths.at("defaultRewriteRuleSet", "id"), rewriteSet, "the rewrite set of all other paths")
	if paths.prop("pathRules").count() != 1 {
		c.add(paths, "the path map must have one rule, for /openai")
	}
	rule := first(paths, "pathRules")
	if list := rule.prop("paths"); list.count() != 1 || list.item(0).text() != "/openai/*" {
		c.add(list, "the prompts' policy must hold for /openai/* and no other path: everything else is inspected whole")
	}
	c.need(rule.at("rewriteRuleSet", "id"), rewriteSet, "the rewrite set of prompts")
	c.need(rule.at("firewallPolicy", "id"), "promptsFirewall.id", "the policy of /openai/*")
}

// policy is what both policies share.
func (c *edge) policy(p *expr, name string) {
	s := p.prop("policySettings")
	c.need(s.prop("state"), "Enabled", "state of "+name)
	c.need(s.prop("mode"), "wafMode", "mode of "+name)
	c.need(s.prop("customBlockResponseStatusCode"), "403", "customBlockResponseStatusCode of "+name)
	body := c.f.resolve(s.prop("customBlockResponseBody"))
	if body == nil || body.Name != "base64" || !strings.Contains(body.Text, `{"error":`) {
		c.add(body, "customBlockResponseBody of %s must be JSON in base64 (W13): SDKs do not read HTML", name)
	}
	c.need(s.at("logScrubbing", "state"), "Enabled", "logScrubbing of "+name)
	hidden := c.f.resolve(s.at("logScrubbing", "scrubbingRules")).text()
	for _, v := range []string{"RequestHeaderNames", "RequestCookieNames", "RequestArgNames", "RequestPostArgNames", "RequestJSONArgNames"} {
		if !strings.Contains(hidden, "matchVariable: '"+v+"', selectorMatchOperator: 'EqualsAny', selector: '*', state: 'Enabled'") {
			c.add(nil, "scrubbingRules of %s lack %s (W10): keys and prompts would stand in the firewall's log", name, v)
		}
	}
	c.rules(p, name)
}

func (c *edge) rules(p *expr, name string) {
	sets := c.f.resolve(p.at("managedRules", "managedRuleSets")).text()
	// W11. W17: version 2.2 of the first switches off Microsoft's own threat rules and those about Log4j.
	for set, version := range map[string]string{"Microsoft_DefaultRuleSet": "2.1", "Microsoft_BotManagerRuleSet": "1.1"} {
		if !strings.Contains(sets, "'"+set+"', ruleSetVersion: '"+version+"'") {
			c.add(p, "%s lacks the rule set %s in version %s", name, set, version)
		}
	}
	exclusions := c.f.resolve(p.at("managedRules", "exclusions"))
	for i := range exclusions.count() { // M1, W18
		if v := exclusions.item(i).prop("matchVariable"); v.text() != "RequestCookieValues" {
			c.add(v, "an exclusion for %s: only other applications' cookies need one", v.text())
		}
	}
	custom := p.prop("customRules")
	custom.walk(func(e *expr) {
		if e.Kind == "array" && e.item(0).text() != "noDots" {
			c.add(e, "the first custom rule of %s must be noDots: dot segments are resolved behind the firewall", name)
		}
	})
	dot := c.f.find("variable", "noDots")
	if custom == nil || dot == nil {
		c.add(custom, "%s does not refuse dot segments", name)
		return
	}
	condition := dot.Value.prop("matchConditions").item(0)
	c.need(dot.Value.prop("action"), "Block", "the action of noDots")
	c.need(condition.prop("operator"), "Regex", "the operator of noDots")
	c.need(condition.prop("matchValues").item(0), dots, "the pattern of noDots")
	c.need(condition.prop("transforms").item(0), "Lowercase", "the transform of noDots")
}

// logs: A9, A10.
func (c *edge) logs() {
	d := c.f.find("resource", "logs")
	list := d.body().at("properties", "logs")
	for i := range list.count() {
		if e := list.item(i); e.prop("category").text() == "ApplicationGatewayAccessLog" {
			c.need(e.prop("enabled"), "accessLog", "the access log, whose rows hold the keys of the query,")
		}
	}
}

// first is the properties of a list's first item.
func first(e *expr, list string) *expr { return e.prop(list).item(0).prop("properties") }

func rewrite(rules *expr, i int) *expr { return rules.item(i).prop("actionSet") }

func (e *expr) item(i int) *expr {
	if e == nil || i >= len(e.Items) {
		return nil
	}
	return e.Items[i]
}

func (e *expr) count() int {
	if e == nil {
		return 0
	}
	return len(e.Items)
}

// resolve is the value of a variable where an expression is its name.
func (f *file) resolve(e *expr) *expr {
	if e != nil && e.Kind == "identifier" {
		if v := f.find("variable", e.Text); v != nil {
			return v.Value
		}
	}
	return e
}
