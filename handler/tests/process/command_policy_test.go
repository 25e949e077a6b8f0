package process_test

import (
	"path/filepath"
	"testing"

	"aoaigateway/handler/tests/harness"
)

func TestOnStorageOnlyCreateNeedsThePolicy(t *testing.T) {
	server := harness.StartAzurite(t)
	environ := []string{"GATEWAY_STORAGE=" + server.ConnectionString(), "GATEWAY_POLICY=" + filepath.Join(t.TempDir(), "none.yaml")}
	fails(t, environ, []string{"set GATEWAY_POLICY to it", "none.yaml"}, "subscription", "create", "Team")
	ok(t, environ[:1:1], "policy", "check", "../../../infra/policy.yaml")
	ok(t, append(environ[:1:1], "GATEWAY_POLICY=../../../infra/policy.yaml"), "subscription", "create", "Team", "--id", "team")
	for _, args := range [][]string{
		{"subscription", "list"},
		{"subscription", "show", "team"},
		{"subscription", "rotate", "team"},
		{"subscription", "suspend", "team"},
		{"usage"},
		{"verify"},
	} {
		ok(t, environ, args...)
	}
}
