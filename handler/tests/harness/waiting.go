package harness

import (
	"testing"
	"time"
)

const tightLimit = 3000

// KillPlan is the plan of a loop that kills gateways.
type KillPlan struct {
	Kills   int
	Apart   time.Duration // average time between two kills
	Trouble time.Duration // how long each fault of Log Analytics lasts
}

// Until polls until ok returns true. It is for results of other processes, for which
// nothing else can wait.
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
