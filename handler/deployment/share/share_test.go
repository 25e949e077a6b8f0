package share_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aoaigateway/handler/deployment"
	"aoaigateway/handler/deployment/share"
	"aoaigateway/handler/table"
)

var at = share.Key{Region: "west", Deployment: "gpt"}

func closing(wait time.Duration) deployment.Closing {
	return deployment.Closing{Why: deployment.WhyThrottled, Size: 10, Until: time.Now().Add(wait)}
}

// learned collects what a Sync reports.
type learned map[share.Key]time.Duration

func start(store table.Store, log *bytes.Buffer) (*share.Sync, learned) {
	known := learned{}
	return share.New(share.Options{
		Table: store, Logger: slog.New(slog.NewTextHandler(log, nil)),
		Learn: func(at share.Key, c deployment.Closing) { known[at] = time.Until(c.Until) },
	}), known
}

func TestSyncReachesOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, log := table.NewMem(), &bytes.Buffer{}
		here, _ := start(store, log)
		there, known := start(store, log)
		synctest.Wait()
		here.Publish(at, closing(time.Minute))
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
				"version": int64(2), "region": "west", "deployment": "gpt",
				"closings": `[{"why":"throttled","until":"` + until.Format(time.RFC3339) + `"}]`,
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		s, known := start(store, log)
		synctest.Wait()
		s.Publish(at, closing(time.Hour))
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
	s := share.New(share.Options{})
	s.AwaitFirstRead(t.Context())
	s.Publish(at, closing(time.Minute))
	s.Close()
}
