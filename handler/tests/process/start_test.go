package process_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"aoaigateway/handler/admin"
	"aoaigateway/handler/app/settings"
	"aoaigateway/handler/cli"
	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/devstack/azurite"
	"aoaigateway/handler/tests/harness"
)

// started runs the real program with a port that is taken. If the program tried to listen,
// its output would say so.
func started(t *testing.T, environ []string) (code int, stdout, stderr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return harness.RunCommand(t, append([]string{settings.PortVariable + "=" + port}, environ...))
}

// wrongSetting is one wrong setting, with the beginning of the line that reports it.
type wrongSetting struct{ setting, value, line string }

func wrongSettings(hidden, policy string) []wrongSetting {
	return []wrongSetting{
		{"GATEWAY_STORAGE", "AccountKey=" + hidden, "GATEWAY_STORAGE: must be UseDevelopmentStorage=true or a connection string"},
		{"GATEWAY_SECRETS", `{"admin": ` + hidden + `}`, "GATEWAY_SECRETS: must be a JSON object of strings"},
		{
			"GATEWAY_TABLE_ENDPOINT", "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=" + hidden,
			"GATEWAY_TABLE_ENDPOINT: must be a URL such as",
		},
		{"GATEWAY_BLOB_ENDPOINT", "https://a.blob.core.windows.net/?sig=" + hidden, "GATEWAY_BLOB_ENDPOINT: must be a URL such as"},
		{"GATEWAY_KEY_VAULT_URI", "https://user:" + hidden + "@vault.azure.net", "GATEWAY_KEY_VAULT_URI: must be a URL such as"},
		{"GATEWAY_FRONTED", "yes", `GATEWAY_FRONTED: must be true or false, not "yes"`},
		{"GATEWAY_MAX_BODY_MB", "lots", "GATEWAY_MAX_BODY_MB: must be a whole number of MiB from 1 to 1024"},
		{"GATEWAY_AUDIT", "sometimes", "GATEWAY_AUDIT: must be strict or relaxed"},
		{"GATEWAY_AUDIT_WAIT", "15", "GATEWAY_AUDIT_WAIT: must be a duration from 1s to 1h"},
		{"GATEWAY_HEARTBEAT", "0s", "GATEWAY_HEARTBEAT: must be a duration from"},
		{"GATEWAY_API_VERSION_FLOOR", "latest", "GATEWAY_API_VERSION_FLOOR: must be an api-version such as 2024-10-21"},
		{"GATEWAY_DEV_CA_FILE", policy, "GATEWAY_DEV_CA_FILE: the file contains no PEM certificate"},
		{"GATEWAY_HEART_BEAT", "20s", "GATEWAY_HEART_BEAT: there is no setting with this name; did you mean GATEWAY_HEARTBEAT?"},
		{"GATEWAY_POLICY", policy, policy + ":6:18: products.default.limits[0].tokens: "},
		{
			"GATEWAY_BACKENDS", `[{"name":"a","endpoint":"http://far.example.com","credential":"k","priority":0,"models":{"m":"d"}},` +
				`{"name":"a","endpoint":"https://b.example.com","credential":"","models":{}}]`,
			`GATEWAY_BACKENDS: region 1 ("a"): priority must be 1 or more`,
		},
	}
}

// The program reports each mistake on a line of its own, with the setting's name and a
// correct value.
func TestStartReportsEveryMistake(t *testing.T) {
	const hidden = "s3cr3t-v4lue"
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(policy, []byte("version: 1\nproducts:\n  default:\n    models: [\"*\"]\n    limits:\n      - {tokens: many, "+
		"per: minute}\n      - {requests: 5, per: fortnight}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wrong := wrongSettings(hidden, policy)
	further := []string{
		policy + ":7:28: products.default.limits[1].per: ",
		`GATEWAY_BACKENDS: region 1 ("a"): endpoint must begin with https://`,
		`GATEWAY_BACKENDS: region 2 ("a"): credential must be "managedIdentity" or the name of a secret`,
		`GATEWAY_BACKENDS: region 2 ("a"): models must map at least one model`,
		`GATEWAY_BACKENDS: region 2 ("a"): another region has the same name`,
	}
	var environ, want []string
	for _, w := range wrong {
		environ = append(environ, w.setting+"="+w.value)
		want = append(want, w.line)
	}
	code, stdout, stderr := started(t, environ)
	if code != 1 || stdout != "" {
		t.Errorf("exit code %d, want 1; printed %q", code, stdout)
	}
	if strings.Contains(stderr, hidden) {
		t.Errorf("a secret is shown:\n%s", stderr)
	}
	sayEach(t, stderr, append(want, further...))
}

// sayEach checks that there is one line for each text in want, and no other line.
func sayEach(t *testing.T, text string, want []string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for _, w := range want {
		i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "gateway: "+w) })
		if i < 0 {
			t.Errorf("no line begins with %q", w)
			continue
		}
		lines = slices.Delete(lines, i, i+1)
	}
	if len(lines) > 0 {
		t.Errorf("further lines:\n%s", strings.Join(lines, "\n"))
	}
}

func TestStartNamesMissingSettings(t *testing.T) {
	code, _, stderr := started(t, nil)
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	sayEach(t, stderr, []string{
		"GATEWAY_BACKENDS: not set; it names the regions, such as [{", "GATEWAY_TABLE_ENDPOINT: not set; set it to https://",
		"GATEWAY_BLOB_ENDPOINT: not set; set it to https://", "GATEWAY_KEY_VAULT_URI: not set; set it to https://",
		"GATEWAY_POLICY: open policy.yaml: ",
	})
}

func TestStartRefusesLocalSettings(t *testing.T) {
	w := harness.NewEnvironment(t, settings.DevelopmentStorage, harness.TestPolicy)
	w.Region(1, aoaisim.Options{Name: "a"})
	code, _, stderr := started(t, w.Environ(settings.AzureVariable+"=instance"))
	if code != 1 || strings.Contains(stderr, azurite.Key) || strings.Contains(stderr, harness.AdminKey) {
		t.Errorf("exit code %d, want 1, and no secrets:\n%s", code, stderr)
	}
	sayEach(t, stderr, []string{
		"GATEWAY_STORAGE: contains an account key, which is not allowed in Azure", "GATEWAY_SECRETS: not allowed in Azure",
		"GATEWAY_DEV_CA_FILE: not allowed in Azure",
	})
}

// This connection string has the right form, but its key is not valid.
func TestStartReportsBrokenKey(t *testing.T) {
	const hidden = "no*base64*at*all"
	w := harness.NewEnvironment(t, "AccountName=a;AccountKey="+hidden+";", harness.TestPolicy)
	w.Region(1, aoaisim.Options{Name: "a"})
	code, _, stderr := started(t, w.Environ())
	if code != 1 || strings.Contains(stderr, hidden) {
		t.Errorf("exit code %d, want 1, and no secrets:\n%s", code, stderr)
	}
	sayEach(t, stderr, []string{"GATEWAY_STORAGE: the AccountKey is not valid base64"})
}

func TestStartReportsTakenPort(t *testing.T) {
	w := harness.NewEnvironment(t, settings.DevelopmentStorage, harness.TestPolicy)
	w.Region(1, aoaisim.Options{Name: "a"})
	code, _, stderr := started(t, w.Environ())
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	sayEach(t, stderr, []string{settings.PortVariable + ": listen tcp "})
}

// The program starts while storage cannot be reached. Otherwise the host would count three
// failed starts and give up the instance.
func TestStartWithoutStorage(t *testing.T) {
	blob, tables := harness.FreePort(t), harness.FreePort(t)
	away := &azurite.Server{Blob: "http://127.0.0.1:" + blob + "/" + azurite.Account, Table: "http://127.0.0.1:" + tables + "/" +
		azurite.Account}
	w := harness.NewEnvironment(t, away.ConnectionString(), harness.TestPolicy)
	w.Region(1, aoaisim.Options{Name: "a"})
	p := harness.StartProcess(t, w.Environ("GATEWAY_AUDIT_WAIT=1s"))
	p.Ready()
	expectStatus(t, p.URL+"/", http.StatusNoContent)
	expectStatus(t, p.URL+"/healthz", http.StatusOK)
	began := time.Now()
	status, retry, body := ask(p, "some-key-of-a-team")
	t.Logf("status %d after %v: %s", status, time.Since(began).Round(time.Millisecond), body)
	if status != http.StatusServiceUnavailable || retry == "" || gjson.Get(body, "statusCode").Int() != 503 ||
		gjson.Get(body, "error.type").String() != "server_error" || gjson.Get(body, "error.message").String() == "" {
		t.Errorf("status %d, Retry-After %q, body %s", status, retry, body)
	}
	select {
	case <-p.Exited:
		t.Fatal("the gateway exited")
	default:
	}
	recovers(p, blob, tables)
}

// recovers starts the storage that could not be reached before.
func recovers(p *harness.Process, blob, tables string) {
	t := p.T
	t.Helper()
	var o azurite.Options
	if _, err := fmt.Sscan(blob+" "+tables, &o.BlobPort, &o.TablePort); err != nil {
		t.Fatal(err)
	}
	server, err := azurite.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	remote := cli.Remote{URL: p.URL, Key: harness.AdminKey, Client: http.DefaultClient}
	created, err := remote.Create(t.Context(), admin.NewSubscription{ID: "team", Product: "default"})
	if err != nil {
		t.Fatal(err)
	}
	harness.Until(t, "an answer after storage came back", func() bool {
		status, _, _ := ask(p, created.Primary)
		return status == http.StatusOK
	})
}

func expectStatus(t *testing.T, url string, want int) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != want {
		t.Errorf("%s: status %d, want %d", url, resp.StatusCode, want)
	}
}

// ask sends a chat request and returns the status; 0 = no answer.
func ask(p *harness.Process, key string) (status int, retryAfter, body string) {
	p.T.Helper()
	req, err := http.NewRequestWithContext(p.T.Context(), http.MethodPost, p.URL+harness.ChatPath, strings.NewReader(harness.ChatBody))
	if err != nil {
		p.T.Fatal(err)
	}
	req.Header.Set("Api-Key", key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", ""
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header.Get("Retry-After"), string(b)
}

func TestStartTime(t *testing.T) {
	server := harness.StartAzurite(t)
	w := harness.NewEnvironment(t, server.ConnectionString(), harness.TestPolicy)
	w.Region(1, aoaisim.Options{Name: "a"})
	code, out, stderr := harness.RunCommand(t, w.Environ(), "subscription", "create", "--json", "Team A")
	if code != 0 {
		t.Fatal(stderr)
	}
	key := gjson.Get(out, "primaryKey").String()
	var took []time.Duration
	for range 9 {
		began := time.Now()
		p := harness.StartProcess(t, w.Environ())
		harness.Until(t, "the first answer", func() bool {
			status, _, body := ask(p, key)
			if status != 0 && status != http.StatusOK {
				t.Fatalf("status %d: %s", status, body)
			}
			return status == http.StatusOK
		})
		took = append(took, time.Since(began).Round(time.Millisecond))
		_ = p.Cmd.Process.Kill()
		<-p.Exited
	}
	slices.Sort(took)
	harness.Report(t, "start to first proxied answer, storage local: %v in the median, %v at best, %v at worst", took[len(took)/2], took[0],
		took[len(took)-1])
	if took[len(took)/2] > 3*time.Second {
		t.Error("an instance that scales from zero would keep its first caller waiting")
	}
}
