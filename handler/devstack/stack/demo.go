package stack

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"text/template"
)

// Subscription is a subscription that was created through the management API.
type Subscription struct {
	ID        string `json:"id,omitempty"`
	Name      string `json:"name"`
	Product   string `json:"product"`
	Primary   string `json:"primaryKey,omitempty"`
	Secondary string `json:"secondaryKey,omitempty"`
}

// demoProduct is the product of the demo's subscription. It is in infra/policy.yaml.
const demoProduct = "default"

// Subscribe creates a subscription through the gateway at url. An empty product means
// demoProduct.
func (s *Services) Subscribe(ctx context.Context, url string, want Subscription) (Subscription, error) {
	if want.Product == "" {
		want.Product = demoProduct
	}
	body, err := json.Marshal(want)
	if err != nil {
		return Subscription{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/manage/api/subscriptions", bytes.NewReader(body))
	if err != nil {
		return Subscription{}, err
	}
	req.Header.Set("Api-Key", s.AdminKey)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return Subscription{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return Subscription{}, err
	}
	if resp.StatusCode != http.StatusCreated {
		return Subscription{}, fmt.Errorf("%s answered with the status %d: %s", req.URL, resp.StatusCode, text)
	}
	var made Subscription
	if err := json.Unmarshal(text, &made); err != nil {
		return Subscription{}, fmt.Errorf("%s: %w: %s", req.URL, err, text)
	}
	return made, nil
}

// DemoKey is the key of the demo's subscription. It is the same on every machine, so that
// the examples in the README work without changes.
const DemoKey = "local-demo-key-local-demo-key-01"

// demoKey makes sure that DemoKey is valid, and returns it. If its subscription is
// suspended, demoKey creates another subscription and returns the key of that one.
func (s *Services) demoKey(ctx context.Context, url string) (string, error) {
	opens := func() bool {
		status, err := get(ctx, url+"/openai/v1/models", DemoKey)
		return err == nil && status == http.StatusOK
	}
	if opens() {
		return DemoKey, nil
	}
	if _, err := s.Subscribe(ctx, url, Subscription{ID: "demo", Name: "demo", Primary: DemoKey}); err == nil {
		return DemoKey, nil
	}
	made, err := s.Subscribe(ctx, url, Subscription{Name: "demo"})
	return made.Primary, err
}

var welcomeText = template.Must(template.New("welcome").Parse(`
The gateway serves at {{.URL}}

  subscription key  {{.Key}}
  admin key         {{.AdminKey}}   (api-key header of {{.URL}}/manage/api/)
  settings          {{.Env}}
{{range .Regions}}  region            {{.Name}}  {{.URL}}
{{end}}
  logs              {{.Logs.Control}}/rows, /violations, /faults   (what Log Analytics would have)

Ask it something:

  curl -s '{{.URL}}/openai/deployments/gpt-4o-mini/chat/completions?api-version=2024-10-21' \
    -H 'api-key: {{.Key}}' -H 'Content-Type: application/json' \
    -d '{"messages":[{"role":"user","content":"hello"}]}'

  from openai import AzureOpenAI
  client = AzureOpenAI(azure_endpoint="{{.URL}}", api_key="{{.Key}}", api_version="2024-10-21")
  for chunk in client.chat.completions.create(model="gpt-4o-mini", stream=True,
                                              messages=[{"role": "user", "content": "hello"}]):
      if chunk.choices: print(chunk.choices[0].delta.content or "", end="")

Break a region and watch it not matter, then mend it:
{{with index .Regions 0}}
  curl -s {{.Control}}/faults -d '{"do":"status","status":429}'
  curl -s -X DELETE {{.Control}}/faults
{{end}}
Ctrl-C stops everything.
`))

func (s *Services) welcome(out io.Writer, url, key string) {
	_ = welcomeText.Execute(out, map[string]any{
		"URL": url, "Key": key, "AdminKey": s.AdminKey, "Env": s.envName(), "Regions": s.Regions,
		"Logs": s.Logs,
	})
	_, _ = fmt.Fprintf(out, "READY %s\n", asJSON(struct {
		URL      string   `json:"url"`
		Key      string   `json:"key"`
		AdminKey string   `json:"adminKey"`
		Regions  []Region `json:"regions"`
		Logs     string   `json:"logs"`
		Env      string   `json:"env"`
	}{url, key, s.AdminKey, s.Regions, s.Logs.Control, s.envName()}))
}

// Describe prints what was started, for people who start gateways themselves.
func (s *Services) Describe(out io.Writer) {
	_, _ = fmt.Fprintf(out, "storage    %s\n", s.Storage)
	for _, r := range s.Regions {
		_, _ = fmt.Fprintf(out, "region     %s  %s  control %s\n", r.Name, r.URL, r.Control)
	}
	_, _ = fmt.Fprintf(out, "logs       %s  control %s\n", s.Logs.URL, s.Logs.Control)
	_, _ = fmt.Fprintf(out, "admin key  %s\n\nStart any number of gateways:\n\n  set -a; . %s; FUNCTIONS_CUSTOMHANDLER_PORT=7101 "+
		"bin/gateway\n\n", s.AdminKey, s.envName())
	_, _ = fmt.Fprintf(out, "READY %s\n", asJSON(map[string]any{
		"adminKey": s.AdminKey, "regions": s.Regions, "logs": s.Logs.Control,
		"env": s.envName(),
	}))
}

// envName returns the path of the settings file, relative to the module's root if possible.
func (s *Services) envName() string {
	if filepath.Base(filepath.Dir(s.EnvFile)) == "dist" {
		return "dist/" + filepath.Base(s.EnvFile)
	}
	return s.EnvFile
}
