package process_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"aoaigateway/handler/admin"
	"aoaigateway/handler/app"
	"aoaigateway/handler/app/settings"
	"aoaigateway/handler/cli"
	"aoaigateway/handler/journal/manifest"
	"aoaigateway/handler/table"
	"aoaigateway/handler/tests/harness"
)

func TestCommandVerifies(t *testing.T) {
	r := newCommandTest(t)
	remote := cli.Remote{URL: r.gateway.URL, Key: harness.AdminKey, Client: http.DefaultClient}
	created, err := remote.Create(t.Context(), admin.NewSubscription{ID: "team", Product: "default"})
	if err != nil {
		t.Fatal(err)
	}
	c := &harness.Client{URL: r.gateway.URL, Key: created.Primary, HTTP: http.DefaultClient}
	for range 3 {
		if s := c.One(t.Context(), harness.Asks[1], "short [tokens:3]"); !s.Complete {
			t.Fatalf("%+v", s)
		}
	}
	// fields are the lines that verify printed, with single blanks between words.
	fields := func(out string) string { return strings.Join(strings.Fields(out), " ") }
	out := fields(ok(t, r.local, "verify"))
	if !strings.Contains(out, "breaks none") || strings.Contains(out, "records 0 ") {
		t.Errorf("verify printed\n%s", out)
	}
	today := time.Now().UTC().Format(time.DateOnly)
	if out := fields(ok(t, r.local, "verify", "--from", "2020-01-01", "--to", today)); !strings.Contains(out, "records 0 ") &&
		time.Now().UTC().Format(time.DateOnly) == today {
		t.Errorf("verify of the days before printed\n%s", out)
	}
	fails(t, r.local, []string{"2026-11-23T14"}, "verify", "--from", "yesterday")

	_ = r.gateway.Cmd.Process.Kill()
	<-r.gateway.Exited
	removeRows(t, r.local)
	code, out, stderr := harness.RunCommand(t, r.local, "verify")
	if code != 1 || !strings.Contains(out, "has no manifest entry") || !strings.Contains(stderr, "altered or damaged") {
		t.Errorf("without its row: exit code %d\n%s%s", code, out, stderr)
	}
}

// removeRows deletes the manifest entries of all files.
func removeRows(t *testing.T, environ []string) {
	t.Helper()
	s, err := settings.For(settings.Serving, environ)
	if err != nil {
		t.Fatal(err)
	}
	store, err := app.OpenTable(s, app.Access{}, app.JournalTable, table.Once)
	if err != nil {
		t.Fatal(err)
	}
	days, err := manifest.New(store).Days(t.Context())
	if err != nil || len(days) == 0 {
		t.Fatalf("days %v, %v", days, err)
	}
	for _, d := range days {
		for e, err := range store.Scan(t.Context(), d.Time.Format(time.DateOnly)) {
			if err == nil {
				err = store.Delete(t.Context(), table.Entity{Key: e.Key, Rev: e.Rev})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}
