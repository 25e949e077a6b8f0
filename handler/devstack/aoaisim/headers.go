package aoaisim

import (
	"net/http"
	"strings"
)

// displayNames are the names of regions in x-ms-region.
var displayNames = map[string]string{
	"eastus": "East US", "eastus2": "East US 2", "swedencentral": "Sweden Central", "westeurope": "West Europe", "japaneast": "Japan East",
}

func display(region string) string {
	if name := displayNames[region]; name != "" {
		return name
	}
	return region
}

const (
	mostCustomHeaders = 10
	mostHeaderBytes   = 32 << 10
)

// custom returns the headers that the service calls custom: it sends them back. The headers
// of SDKs and proxies are none.
func custom(h http.Header) []string {
	var names []string
	for name := range h {
		rest, ok := strings.CutPrefix(name, "X-")
		if !ok || strings.HasPrefix(rest, "Ms-") || strings.HasPrefix(rest, "Stainless-") || strings.HasPrefix(rest, "Forwarded") ||
			rest == "Request-Id" || rest == "Policy-Id" {
			continue
		}
		names = append(names, name)
	}
	return names
}

// headersRefused returns the scenario of a refusal for too many or too long headers.
func (r *Region) headersRefused(h http.Header) string {
	size := 0
	for name, values := range h {
		for _, v := range values {
			size += len(name) + len(v) + 4
		}
	}
	switch {
	case !r.azure():
		return ""
	case size > mostHeaderBytes:
		return "headers-too-large-size"
	case len(custom(h)) > mostCustomHeaders:
		return "headers-too-large"
	}
	return ""
}

// headers sets what every answer has.
func (x *exchange) headers() {
	h := x.w.Header()
	h.Set("apim-request-id", x.id)
	h.Set("x-ms-region", display(x.region.o.Name))
	h.Set("x-request-id", newID())
	h.Set("x-content-type-options", "nosniff")
	h.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains; preload")
	h.Set("x-ms-client-request-id", "Not-Set")
	if id := x.r.Header.Get("x-ms-client-request-id"); id != "" {
		h.Set("x-ms-client-request-id", id)
	}
	if names := custom(x.r.Header); len(names) <= mostCustomHeaders && x.region.azure() {
		for _, name := range names {
			h.Set(name, x.r.Header.Get(name))
		}
	}
}

// modelHeaders sets what the good answers of a model have. Responses has another set than
// the older APIs.
func (x *exchange) modelHeaders(q *request) {
	h := x.w.Header()
	h.Set("x-ms-is-spilled-over", "false")
	h.Set("x-ratelimit-abusepenalty-active", "False")
	h.Set("x-ms-served-model", q.model.version())
	h.Set("azureai-fe-is-streaming", map[bool]string{true: "True", false: "False"}[q.Stream])
	if x.route.operation == opResponses {
		h.Set("x-ratelimit-key", x.deployment)
		h.Set("skip-error-remapping", "true")
		return
	}
	h.Set("x-ms-deployment-name", x.deployment)
	h.Set("x-ms-rai-invoked", "true")
	h.Set("azureml-model-session", "d20260330170902-0e618f323d34")
	h.Set("x-accel-buffering", "no")
	if asked := x.r.Header.Get("x-ms-spillover-deployment"); asked != "" {
		h.Set("x-ms-spillover-from-deployment", x.deployment)
		h.Set("x-ms-deployment-name", asked)
		h.Set("x-ms-is-spilled-over", "true")
	}
}
