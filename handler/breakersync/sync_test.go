package breakersync_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aoaigateway/handler/breakersync"
	"aoaigateway/handler/table"
)

var at = breakersync.Key{Region: "west", Deployment: "gpt"}

// learned collects what a Sync reports.
type learned map[breakersync.Key]time.Duration

func start(store table.Store, log *bytes.Buffer) (*breakersync.Sync, learned) {
	known := learned{}
	return breakersync.New(breakersync.Options{
		Table: store, Logger: slog.New(slog.NewTextHandler(log, nil)),
		Learn: func(at breakersync.Key, wait time.Duration, _ bool) { known[at] = wait },
	}), known
}

func TestSyncReachesOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, log := table.NewMem(), &bytes.Buffer{}
		here, _ := start(store, log)
		there, known := start(store, log)
		synctest.Wait()
		here.Publish(at, time.Minute, true)
		time.Sleep(6 * time.Second)
		here.Close()
		there.Close()
		if wait := known[at]; wait <= 50*time.Second || wait > time.Minute || log.Len() > 0 {
			t.Errorf("the other instance learned %v; log %s", wait, log)
		}
	})
}

func TestSyncLeavesNewerRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, log := table.NewMem(), &bytes.Buffer{}
		until := time.Now().Add(time.Minute).UTC()
		_, err := store.Insert(t.Context(), table.Entity{
			Key: table.Key{Partition: "regions", Row: "west|gpt"},
			Props: map[string]any{
				"version": int64(2), "region": "west", "deployment": "gpt", "openUntil": until, "throttled": true,
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		s, known := start(store, log)
		synctest.Wait()
		s.Publish(at, time.Hour, false)
		time.Sleep(time.Second)
		s.Close()
		e, err := store.Get(t.Context(), table.Key{Partition: "regions", Row: "west|gpt"})
		if err != nil || e.Props["version"] != int64(2) || len(known) != 0 {
			t.Errorf("row %v, %v; learned %v", e.Props, err, known)
		}
		if !strings.Contains(log.String(), "format version 2") {
			t.Errorf("log %s", log)
		}
	})
}

func TestNilSyncDoesNothing(t *testing.T) {
	s := breakersync.New(breakersync.Options{})
	s.AwaitFirstRead(t.Context())
	s.Publish(at, time.Minute, true)
	s.Close()
}
