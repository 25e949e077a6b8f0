package template

import (
	"fmt"
	"strconv"
)

// leastTimeout is what the Application Gateway must wait for, in seconds: the program gives
// an answer up after GATEWAY_ANSWER_TIMEOUT, 220 s, and no stream is silent for longer.
const leastTimeout = 220

// checkEdge holds the Application Gateway to what streams and records need of it.
func checkEdge(all templates) (found []Finding) {
	f := all["edge.bicep"]
	gateway, firewall := f.find("resource", "gateway"), f.find("resource", "firewall")
	if gateway == nil || firewall == nil {
		return []Finding{{"infra/edge.bicep", 0, "no Application Gateway or no firewall policy"}}
	}
	p := gateway.body().prop("properties")
	need := func(e *expr, want, name string) {
		if e.text() != want {
			found = append(found, Finding{f.path, max(gateway.Line, e.line()), fmt.Sprintf("%s must be %s, and is %q", name, want, e.text())})
		}
	}
	need(p.at("globalConfiguration", "enableResponseBuffering"), "false", "enableResponseBuffering")
	need(first(p, "probes").prop("path"), "/healthz", "the probe's path")
	need(first(p, "backendHttpSettingsCollection").prop("protocol"), "Https", "the protocol to the app")
	need(p.at("sku", "name"), "WAF_v2", "the gateway's SKU")
	need(p.at("sslPolicy", "policyName"), "AppGwSslPolicy20220101S", "the TLS policy")
	rules := first(p, "rewriteRuleSets").prop("rewriteRules")
	header := rewrite(rules, 0).at("requestHeaderConfigurations").item(0)
	need(header.prop("headerName"), "X-Gateway-Client-IP", "the first rewrite's header")
	need(header.prop("headerValue"), "{var_client_ip}", "the value of X-Gateway-Client-IP")
	need(rules.item(1).prop("conditions").item(0).prop("pattern"), "^/+(openai/.*)", "the second rewrite's pattern")
	need(rewrite(rules, 1).at("urlConfiguration", "modifiedPath"), "/{var_uri_path_1}", "the second rewrite's path")
	routed := false
	for i := range p.prop("requestRoutingRules").count() {
		rule := p.prop("requestRoutingRules").item(i).prop("properties")
		if rule.prop("backendAddressPool") != nil && rule.at("rewriteRuleSet", "id").text() == "${gatewayId}/rewriteRuleSets/requests" {
			routed = true
		}
	}
	if !routed {
		found = append(found, Finding{f.path, gateway.Line, "the rule that leads to the app must use the rewrite set"})
	}
	w := firewall.body().at("properties", "policySettings")
	need(w.prop("requestBodyEnforcement"), "false", "requestBodyEnforcement (long prompts pass any size it knows)")
	need(w.at("logScrubbing", "state"), "Enabled", "logScrubbing (its log would hold pieces of prompts)")
	return append(found, checkTimeout(f, first(p, "backendHttpSettingsCollection").prop("requestTimeout"))...)
}

func checkTimeout(f *file, e *expr) (found []Finding) {
	if e == nil {
		return []Finding{{f.path, 0, "requestTimeout is missing: 20 s would be the default"}}
	}
	e.walk(func(e *expr) {
		if n, err := strconv.Atoi(e.Text); e.Kind == "number" && (err != nil || n < leastTimeout) {
			found = append(found, Finding{f.path, e.Line, fmt.Sprintf("requestTimeout %s is shorter than the %d s that an answer may take", e.Text,
				leastTimeout)})
		}
	})
	return found
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
