package app

import (
	"context"
	"os"
	"time"
)

// The Functions host does not signal its handler when it ends. When the host is killed, the
// handler would continue to run and keep its port and its leases.
const (
	parentCheck = 200 * time.Millisecond
	orphanGrace = 500 * time.Millisecond // time for the records and settlements of requests that have ended
)

// orphaned returns a channel that is closed when the Functions host has ended, that is when
// the process has another parent. If hosted is false, the channel is never closed. It does
// not use Linux's parent-death signal, which is sent already when the thread that started
// the process ends.
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
