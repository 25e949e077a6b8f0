package aoaisim

import (
	"net/http"
	"regexp"
	"strings"
)

// The operations that use tokens, by the last part of their path.
const (
	opChat        = "chat/completions"
	opCompletions = "completions"
	opEmbeddings  = "embeddings"
	opResponses   = "responses"
)

// apiNames are the folders of the scenarios.
var apiNames = map[string]string{opChat: "chat", opCompletions: "completions", opEmbeddings: "embeddings", opResponses: "responses"}

type route struct {
	operation  string // the path below /openai/v1, /openai/deployments/{d} or /openai
	deployment string // empty except on classic deployment paths
	apiVersion string
	v1         bool
	post       bool
}

func (t route) metered() bool {
	_, ok := forms[t.operation]
	return ok && t.post
}

// name returns the operation's name in the service's messages.
func (t route) name() string {
	switch t.operation {
	case opChat:
		return "ChatCompletions_Create"
	case opCompletions:
		return "Completions_Create"
	case opEmbeddings:
		return "Embeddings_Create"
	default:
		return "Responses_Create"
	}
}

// parseRoute returns the route, or the scenario of a refusal.
func (r *Region) parseRoute(req *http.Request) (route, string) {
	t := route{apiVersion: req.URL.Query().Get("api-version"), post: req.Method == http.MethodPost}
	rest, ok := strings.CutPrefix(req.URL.Path, "/openai/")
	if !ok || rest == "" {
		return t, "resource-not-found"
	}
	if op, ok := strings.CutPrefix(rest, "v1/"); ok {
		t.v1, t.operation = true, op
		if t.apiVersion != "" && t.apiVersion != "preview" && t.apiVersion != "latest" && r.azure() {
			return t, "version-not-supported"
		}
		return t, r.withoutResponses(op)
	}
	// The service answers 404 also for an api-version that it no longer supports.
	if t.apiVersion == "" || t.apiVersion < r.o.OldestAPIVersion || r.azure() && !version.MatchString(t.apiVersion) {
		return t, "resource-not-found"
	}
	t.operation = rest
	if d, ok := strings.CutPrefix(rest, "deployments/"); ok && strings.Contains(d, "/") {
		if t.deployment, t.operation, ok = strings.Cut(d, "/"); !ok || t.deployment == "" {
			return t, "resource-not-found"
		}
	} else if rest == opChat || rest == opCompletions || rest == opEmbeddings {
		return t, "resource-not-found"
	}
	return t, r.withoutResponses(rest)
}

// version is the form of an api-version.
var version = regexp.MustCompile(`^20\d\d-[01]\d-[0-3]\d(-preview)?$`)

func (r *Region) withoutResponses(operation string) string {
	if first, _, _ := strings.Cut(operation, "/"); first == opResponses && r.o.Switches.NoResponses {
		return "api-not-enabled"
	}
	return ""
}

// authorize returns the scenario of a refusal, or nothing.
func (r *Region) authorize(req *http.Request) string {
	if key := req.Header.Get("api-key"); key != "" {
		if key == r.o.Key {
			return ""
		}
		return "wrong-key"
	}
	bearer, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	switch {
	case !ok || bearer == "":
		return "wrong-key"
	case bearer == r.o.Key, bearer == r.o.Token:
		return ""
	default:
		return "wrong-token"
	}
}
