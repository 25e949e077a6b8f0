package aoaisim

import (
	"net/http"
	"strings"
)

// The operations that use tokens, by the last part of their path.
const (
	opChat        = "chat/completions"
	opCompletions = "completions"
	opEmbeddings  = "embeddings"
	opResponses   = "responses"
)

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

func (r *Region) parseRoute(req *http.Request) (route, *apiError) {
	t := route{apiVersion: req.URL.Query().Get("api-version"), post: req.Method == http.MethodPost}
	rest, ok := strings.CutPrefix(req.URL.Path, "/openai/")
	if !ok || rest == "" {
		return t, resourceNotFound()
	}
	if op, ok := strings.CutPrefix(rest, "v1/"); ok {
		t.v1, t.operation = true, op
		return t, nil
	}
	// The service answers 404 also for an api-version that it no longer supports.
	if t.apiVersion == "" || t.apiVersion < r.o.OldestAPIVersion {
		return t, resourceNotFound()
	}
	t.operation = rest
	if d, ok := strings.CutPrefix(rest, "deployments/"); ok && strings.Contains(d, "/") {
		if t.deployment, t.operation, ok = strings.Cut(d, "/"); !ok || t.deployment == "" {
			return t, resourceNotFound()
		}
	} else if rest == opChat || rest == opCompletions || rest == opEmbeddings {
		return t, resourceNotFound()
	}
	return t, nil
}

func (r *Region) authorize(req *http.Request) *apiError {
	if key := req.Header.Get("api-key"); key != "" {
		if key == r.o.Key {
			return nil
		}
		return wrongKey()
	}
	bearer, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	switch {
	case !ok || bearer == "":
		return wrongKey()
	case bearer == r.o.Key, bearer == r.o.Token:
		return nil
	default:
		return wrongToken()
	}
}
