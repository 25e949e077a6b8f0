package openai_test

import (
	"strings"
	"testing"

	"aoaigateway/handler/openai"
)

func TestFindEveryOperation(t *testing.T) {
	for _, op := range openai.Operations() {
		prefix := map[string]string{openai.Classic: "", openai.V1: "/v1"}[op.Surface]
		path := prefix + strings.NewReplacer("{deployment}", "gpt-4o", "{", "x", "}", "").Replace(op.Path)
		m, _, ok := openai.Find(op.Method, path)
		if !ok || m.Operation != op {
			t.Errorf("%s %s: found %+v, %t", op.Method, path, m, ok)
		}
		if strings.Contains(op.Path, "{deployment}") != (m.Deployment == "gpt-4o") {
			t.Errorf("%s: deployment is %q", path, m.Deployment)
		}
	}
}

// Queries depend on these spellings.
func TestOperationIDSpelling(t *testing.T) {
	for path, id := range map[string]string{
		"/deployments/d/completions":      "completions_create",
		"/deployments/d/chat/completions": "ChatCompletions_Create",
		"/deployments/d/embeddings":       "embeddings_create",
		"/v1/chat/completions":            "createChatCompletion",
		"/v1/completions":                 "createCompletion",
		"/responses":                      "Create_Response",
		"/threads/runs":                   "Create_Thread_And_Run",
	} {
		if m, _, _ := openai.Find("POST", path); m.ID != id {
			t.Errorf("POST %s is %q, want %q", path, m.ID, id)
		}
	}
}

func TestFindListsMethods(t *testing.T) {
	_, allow, ok := openai.Find("PUT", "/responses/resp_1")
	if ok || strings.Join(allow, ",") != "DELETE,GET" {
		t.Fatalf("allow %v, ok %t", allow, ok)
	}
}

func TestFindUnknownPaths(t *testing.T) {
	for _, path := range []string{
		"", "/", "/v1", "/v2/chat/completions", "/deployments", "/deployments//chat/completions", "/deployments/d/chat",
		"/deployments/d/chat/completions/x", "/V1/chat/completions",
	} {
		if m, _, ok := openai.Find("POST", path); ok {
			t.Errorf("%q found %+v", path, m)
		}
	}
}
