package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"aoaigateway/handler/admin"
	"aoaigateway/handler/journal"
	"aoaigateway/handler/table"
)

func TestTheJournalIsVerifiedFromTheCommandLine(t *testing.T) {
	r := newCommandRig(t)
	remote := admin.Remote{URL: r.gateway.url, AdminKey: adminKey, Client: http.DefaultClient}
	created, err := remote.Create(t.Context(), admin.NewSubscription{ID: "team", Product: "default"})
	if err != nil {
		t.Fatal(err)
	}
	c := &client{url: r.gateway.url, key: created.Primary, http: http.DefaultClient}
	for range 3 {
		if s := c.one(t.Context(), asks[1], "short [tokens:3]"); !s.complete {
			t.Fatalf("%+v", s)
		}
	}
	out := ok(t, r.local, "verify")
	if !strings.Contains(out, "breaks      none") || strings.Contains(out, "records     0") {
		t.Errorf("verify printed\n%s", out)
	}
	today := time.Now().UTC().Format(time.DateOnly)
	if out := ok(t, r.local, "verify", "--from", "2020-01-01", "--to", today); !strings.Contains(out, "records     0") && time.Now().UTC().Format(time.DateOnly) == today {
		t.Errorf("verify of the days before printed\n%s", out)
	}
	fails(t, r.local, []string{"2026-11-23T14"}, "verify", "--from", "yesterday")

	_ = r.gateway.cmd.Process.Kill()
	<-r.gateway.exited
	removeRows(t, r.local)
	code, out, stderr := gatewayCommand(t, r.local, "verify")
	if code != 1 || !strings.Contains(out, "has no row") || !strings.Contains(stderr, "not as it was written") {
		t.Errorf("without its row: exit code %d\n%s%s", code, out, stderr)
	}
}

// removeRows deletes the row of every file.
func removeRows(t *testing.T, environ []string) {
	t.Helper()
	s, err := loadSettings(environ)
	if err != nil {
		t.Fatal(err)
	}
	store, err := s.openTable(nil, journalTable, false)
	if err != nil {
		t.Fatal(err)
	}
	days, err := journal.NewRows(store).Days(t.Context())
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
