package process_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/tests/harness"
)

// commandTest is a running gateway, with the two ways to manage it from the command line.
type commandTest struct {
	*testing.T
	gateway *harness.Process
	local   []string // settings with which a command changes storage directly
	remote  []string // address and key with which a command uses the management API
}

func newCommandTest(t *testing.T) *commandTest {
	t.Helper()
	server := harness.StartAzurite(t)
	w := harness.NewEnvironment(t, server.ConnectionString(), harness.TestPolicy)
	w.Region(1, aoaisim.Options{Name: "a"})
	p := harness.StartProcess(t, w.Environ())
	p.Ready()
	return &commandTest{
		T: t, gateway: p, local: w.Environ(),
		remote: []string{"GATEWAY_URL=" + p.URL, "GATEWAY_ADMIN_KEY=" + harness.AdminKey},
	}
}

// ok runs a command that must succeed. It returns the command's output.
func ok(t *testing.T, environ []string, args ...string) string {
	t.Helper()
	code, out, stderr := harness.RunCommand(t, environ, args...)
	if code != 0 || stderr != "" {
		t.Fatalf("gateway %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, stderr)
	}
	return out
}

// fails runs a command that must fail. Its message must contain each text in want.
func fails(t *testing.T, environ []string, want []string, args ...string) {
	t.Helper()
	code, out, stderr := harness.RunCommand(t, environ, args...)
	if code != 1 || out != "" {
		t.Errorf("gateway %s: exit code %d, want 1; printed %q", strings.Join(args, " "), code, out)
	}
	for _, w := range want {
		if !strings.Contains(stderr, w) {
			t.Errorf("gateway %s: the error does not say %q:\n%s", strings.Join(args, " "), w, stderr)
		}
	}
}

func TestCommandManagesSubscriptions(t *testing.T) {
	r := newCommandTest(t)
	for name, environ := range map[string][]string{"on storage": r.local, "through the gateway": r.remote} {
		id := strings.ReplaceAll(name, " ", "-")
		t.Run(name, func(t *testing.T) {
			made := ok(t, environ, "subscription", "create", "Team "+name, "--id", id, "--json")
			key := gjson.Get(made, "primaryKey").String()
			r.accepts(t, key, http.StatusOK)
			if text := ok(t, environ, "subscription", "list"); !strings.Contains(text, id+" ") || strings.Contains(text, key) {
				t.Errorf("list:\n%s", text)
			}
			if text := ok(t, environ, "subscription", "show", id); !strings.Contains(text, "Team "+name) || !strings.Contains(text, "default") ||
				strings.Contains(text, key) {
				t.Errorf("show:\n%s", text)
			}
			rotated := ok(t, environ, "subscription", "rotate", id, "--key", "primary", "--json")
			if again := gjson.Get(rotated, "primaryKey").String(); again == key || gjson.Get(rotated, "secondaryKey").Exists() {
				t.Errorf("rotate:\n%s", rotated)
			} else {
				r.accepts(t, again, http.StatusOK)
			}
			if text := ok(t, environ, "subscription", "suspend", id); !strings.Contains(text, "suspended") {
				t.Errorf("suspend:\n%s", text)
			}
			if text := ok(t, environ, "subscription", "resume", id); !strings.Contains(text, "active") {
				t.Errorf("resume:\n%s", text)
			}
		})
	}
}

// accepts reports whether the running gateway accepts a key.
func (r *commandTest) accepts(t *testing.T, key string, want int) {
	t.Helper()
	if status, _, body := ask(r.gateway, key); status != want {
		t.Errorf("status %d, want %d: %s", status, want, body)
	}
}

// A change made through a gateway is effective in that gateway at once.
func TestCommandTakesEffectAtOnce(t *testing.T) {
	r := newCommandTest(t)
	made := ok(t, r.remote, "subscription", "create", "Team", "--id", "team", "--json")
	primary, secondary := gjson.Get(made, "primaryKey").String(), gjson.Get(made, "secondaryKey").String()
	r.accepts(t, primary, http.StatusOK)
	r.accepts(t, secondary, http.StatusOK)
	ok(t, r.remote, "subscription", "rotate", "team", "--key", "primary")
	r.accepts(t, primary, http.StatusUnauthorized)
	r.accepts(t, secondary, http.StatusOK)
	ok(t, r.remote, "subscription", "suspend", "team")
	r.accepts(t, secondary, http.StatusUnauthorized)
	ok(t, r.remote, "subscription", "resume", "team")
	r.accepts(t, secondary, http.StatusOK)
}

func TestCommandNamesMistakes(t *testing.T) {
	r := newCommandTest(t)
	for name, environ := range map[string][]string{"on storage": r.local, "through the gateway": r.remote} {
		id := strings.ReplaceAll(name, " ", "-")
		t.Run(name, func(t *testing.T) {
			ok(t, environ, "subscription", "create", "Team", "--id", id)
			fails(t, environ, []string{"The subscription id " + id + " is already in use."}, "subscription", "create", "Team", "--id", id)
			fails(t, environ, []string{`There is no product "gold". The policy has: capped, default, narrow.`}, "subscription", "create", "Team",
				"--product", "gold")
			fails(t, environ, []string{"A key must have 16 to 256 characters."}, "subscription", "create", "Team", "--primary-key", "short")
			fails(t, environ, []string{"The id must be up to 80 letters"}, "subscription", "create", "Team", "--id", "a/b")
			for _, verb := range []string{"show", "rotate", "suspend", "resume"} {
				fails(t, environ, []string{`There is no subscription with the id "nobody".`}, "subscription", verb, "nobody")
			}
			fails(t, environ, []string{"--key", "primary", "secondary"}, "subscription", "rotate", id, "--key", "third")
		})
	}
}

func TestCommandNamesMissingSettings(t *testing.T) {
	r := newCommandTest(t)
	fails(t, nil, []string{"without --url the command needs settings that name the storage:", "GATEWAY_TABLE_ENDPOINT: not set"},
		"subscription",
		"list")
	fails(t, nil, []string{"Access denied: send the admin key"}, "subscription", "list", "--url", r.gateway.URL)
	fails(t, nil, []string{"Access denied: this is not the admin key."}, "subscription", "list", "--url", r.gateway.URL, "--admin-key",
		"a-wrong-admin-key")
	nobody := "http://127.0.0.1:" + harness.FreePort(t)
	fails(t, nil, []string{nobody, "connection refused"}, "subscription", "list", "--url", nobody, "--admin-key", harness.AdminKey)
	fails(t, nil, []string{"--url"}, "subscription", "list", "--url", "gateway.example.com", "--admin-key", harness.AdminKey)
	fails(t, nil, []string{"unexpected argument frobnicate"}, "frobnicate")
	fails(t, nil, []string{"<name>"}, "subscription", "create")
	if text := ok(t, nil); !strings.Contains(text, "subscription create") {
		t.Errorf("no arguments print no help:\n%s", text)
	}
}

func TestCommandChecksPolicy(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.yaml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(harness.TestPolicy)
	if text := ok(t, nil, "policy", "check", file); !strings.Contains(text, "has no mistakes") {
		t.Error(text)
	}
	write("version: 2\nproducts:\n  a: {modls: []}\n")
	fails(t, nil, []string{file + ":1:10: version: 2 is not supported; this gateway reads version 1", file + ":3:7: products.a"}, "policy",
		"check", file)
	fails(t, nil, []string{"no such file"}, "policy", "check", file+".gone")
}
