package stack_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"aoaigateway/handler/devstack/aoaisim/wire"
	"aoaigateway/handler/devstack/stack"
)

func start(t *testing.T) *stack.Services {
	t.Helper()
	if testing.Short() {
		t.Skip("needs Node; make test runs it")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	s, err := stack.Start(ctx, stack.Options{Memory: true, EnvFile: filepath.Join(t.TempDir(), "dev.env")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// sourced reads the settings as a shell does.
func sourced(t *testing.T, file, name string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sh", "-c", `set -a; . "$1"; printenv "$2"`, "sh", file, name).Output()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return strings.TrimSuffix(string(out), "\n")
}

func call(t *testing.T, method, url string, header map[string]string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(`{"messages":[{"role":"user","content":"hello"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: wire.Roots()}, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestSettingsFileOpensRegions(t *testing.T) {
	s := start(t)
	var backends []struct {
		Name, Endpoint, Credential string
		Models                     map[string]string
	}
	if err := json.Unmarshal([]byte(sourced(t, s.EnvFile, "GATEWAY_BACKENDS")), &backends); err != nil || len(backends) != 2 {
		t.Fatalf("%v: %+v", err, backends)
	}
	var secrets map[string]string
	if err := json.Unmarshal([]byte(sourced(t, s.EnvFile, "GATEWAY_SECRETS")), &secrets); err != nil ||
		secrets["gateway-admin-key"] != s.AdminKey {
		t.Fatalf("%v: %v", err, secrets)
	}
	for _, b := range backends {
		header := map[string]string{"api-key": secrets[b.Credential]}
		if b.Credential == stack.ManagedIdentity {
			status, answer := call(t, http.MethodGet, sourced(t, s.EnvFile,
				"IDENTITY_ENDPOINT")+"?api-version=2019-08-01&resource=https://cognitiveservices.azure.com&client_id="+
				sourced(t, s.EnvFile, "AZURE_CLIENT_ID"),
				map[string]string{"X-IDENTITY-HEADER": sourced(t, s.EnvFile, "IDENTITY_HEADER")})
			var token struct {
				AccessToken string `json:"access_token"`
				ExpiresOn   string `json:"expires_on"`
			}
			if err := json.Unmarshal([]byte(answer), &token); err != nil || status != http.StatusOK || token.ExpiresOn == "" {
				t.Fatalf("identity: %d %s", status, answer)
			}
			header = map[string]string{"Authorization": "Bearer " + token.AccessToken}
		}
		status, answer := call(t, http.MethodPost,
			b.Endpoint+"/openai/deployments/"+b.Models["gpt-4o-mini"]+"/chat/completions?api-version=2024-10-21", header)
		if status != http.StatusOK || !strings.Contains(answer, `"model":"gpt-4o-mini-2024-07-18"`) {
			t.Errorf("%s: %d %s", b.Name, status, answer)
		}
	}
	if !strings.Contains(sourced(t, s.EnvFile, "GATEWAY_STORAGE"), "TableEndpoint=http://127.0.0.1:") {
		t.Error("no storage")
	}
}

func TestIdentityEndpointRefusals(t *testing.T) {
	s := start(t)
	endpoint, header := sourced(t, s.EnvFile, "IDENTITY_ENDPOINT"), sourced(t, s.EnvFile, "IDENTITY_HEADER")
	client := "&client_id=" + sourced(t, s.EnvFile, "AZURE_CLIENT_ID")
	for query, header := range map[string]string{
		"?api-version=2019-08-01&resource=x" + client:         "wrong",
		"?api-version=2020-01-01&resource=x" + client:         header,
		"?api-version=2019-08-01" + client:                    header,
		"?api-version=2019-08-01&resource=x":                  header,
		"?api-version=2019-08-01&resource=x&client_id=system": header,
	} {
		if status, _ := call(t, http.MethodGet, endpoint+query, map[string]string{"X-IDENTITY-HEADER": header}); status != http.StatusBadRequest {
			t.Errorf("%s: status %d", query, status)
		}
	}
}

// screen is what a run printed so far.
type screen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *screen) ready() (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, line, ok := strings.Cut(s.b.String(), "\nREADY ")
	line, _, whole := strings.Cut(line, "\n")
	return line, ok && whole
}

func TestRunPrintsReadyLine(t *testing.T) {
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(policy, []byte("version: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", withoutFunc(t))
	for range 2 {
		ctx, stop := context.WithCancel(t.Context())
		var out screen
		ended := make(chan error, 1)
		go func() {
			ended <- stack.Run(ctx, stack.RunOptions{
				Out: &out, Log: t.Output(), Stage: stack.StageOptions{Package: fake, Policy: policy, Out: filepath.Join(dir, "app")},
				Stack: stack.Options{Memory: true, EnvFile: filepath.Join(dir, "dev.env")},
			})
		}()
		line := waitReady(t, &out, ended)
		var ready struct {
			URL, Key, AdminKey, Env string
			Regions                 []struct{ Name, URL, Control string }
		}
		if err := json.Unmarshal([]byte(line), &ready); err != nil || len(ready.Regions) != 2 || ready.Key != stack.DemoKey ||
			ready.AdminKey == "" {
			t.Fatalf("%v: %s", err, line)
		}
		if status, _ := call(t, http.MethodGet, ready.URL+"/openai/v1/models", map[string]string{"api-key": ready.Key}); status != http.StatusOK {
			t.Errorf("the key does not open: %d", status)
		}
		if status, _ := call(t, http.MethodGet, ready.Regions[0].Control+"/counts", nil); status != http.StatusOK {
			t.Errorf("control: %d", status)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if resp, err := http.Get(ready.URL + "/healthz"); err == nil {
			_ = resp.Body.Close()
			t.Error("still serving after the end")
		}
	}
}

func waitReady(t *testing.T, out *screen, ended <-chan error) string {
	t.Helper()
	deadline := time.After(3 * time.Minute)
	for {
		if line, ok := out.ready(); ok {
			return line
		}
		select {
		case err := <-ended:
			t.Fatalf("ended early: %v", err)
		case <-deadline:
			t.Fatal("not ready in 3 minutes")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// withoutFunc is PATH without folders that hold Core Tools: these tests are about the stand-in.
func withoutFunc(t *testing.T) string {
	t.Helper()
	var kept []string
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if _, err := os.Stat(filepath.Join(dir, "func")); err != nil {
			kept = append(kept, dir)
		}
	}
	return strings.Join(kept, string(os.PathListSeparator))
}
