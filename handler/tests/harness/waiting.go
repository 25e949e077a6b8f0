package harness

import (
	"testing"
	"time"
)

const tightLimit = 3000

// KillPlan says how a kill loop runs.
type KillPlan struct {
	Kills   int
	Apart   time.Duration // mean time between two kills
	Trouble time.Duration // length of each fault of Log Analytics
}

// Until polls until ok returns true. It is for what other processes do.
func Until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		if err := Pause(t.Context(), 2*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}
