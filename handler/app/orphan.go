package app

import (
	"context"
	"os"
	"time"
)

// The Functions host sends no signal when it ends, and a host that is killed leaves its
// handler running with its port, its leases and its loops.
const (
	parentCheck = 200 * time.Millisecond
	orphanGrace = 500 * time.Millisecond // for records and settlements of requests that have ended
)

// orphaned returns a channel that is closed when the process's parent has ended. It is
// never closed unless the parent is the Functions host. A parent-death signal would not do:
// Linux sends it when the thread that started the process ends.
func orphaned(ctx context.Context, hosted bool) <-chan struct{} {
	gone := make(chan struct{})
	if !hosted {
		return gone
	}
	parent := os.Getppid()
	go func() {
		tick := time.NewTicker(parentCheck)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if os.Getppid() != parent {
					close(gone)
					return
				}
			}
		}
	}()
	return gone
}
