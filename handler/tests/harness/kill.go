package harness

import (
	"testing"
	"time"
)

const tightLimit = 3000

// plan of a kill loop.
type KillPlan struct {
	Kills   int
	Apart   time.Duration // in the mean
	Trouble time.Duration // of one sort at the sink
}

// until polls what another process does.
func Until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		if err := Pause(t.Context(), 2*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}
