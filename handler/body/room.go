package body

import (
	"context"
	"sync"
	"time"

	"aoaigateway/handler/gateway"
)

// roomWait is how long a request waits for room.
const roomWait = time.Second

// greed is how many times the free room one owner may hold. So one owner leaves a fifth of
// the room free, two leave a ninth, and so on: no owner can take all of it from the others.
const greed = 4

// room is a number of bytes that all bodies of one kind share.
type room struct {
	mu     sync.Mutex
	free   int64
	owners map[string]int64 // bytes of each owner
	freed  chan struct{}    // closed when bytes are given back, and then replaced
}

func newRoom(size int64) *room {
	return &room{free: size, owners: map[string]int64{}, freed: make(chan struct{})}
}

// share is the room of one body.
type share struct {
	room  *room
	owner string
	held  int64 // bytes that the room counts for this body; guarded by the room's mu
	used  int64 // bytes that the body has filled; guarded by the room's mu
}

// grow makes the share at least size bytes large. It waits for room for up to a second.
func (s *share) grow(ctx context.Context, size int64) error {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	var timeout <-chan time.Time
	for !s.take(size - s.held) {
		if timeout == nil {
			timer := time.NewTimer(roomWait)
			defer timer.Stop()
			timeout = timer.C
		}
		freed := s.room.freed
		s.room.mu.Unlock()
		err := waitFor(ctx, freed, timeout)
		s.room.mu.Lock()
		if err != nil {
			return err
		}
	}
	return nil
}

func waitFor(ctx context.Context, freed <-chan struct{}, timeout <-chan time.Time) error {
	select {
	case <-freed:
		return nil
	case <-timeout:
		return full(nil)
	case <-ctx.Done():
		return gateway.ClientConnectionFailure.Because(context.Cause(ctx))
	}
}

func full(cause error) error {
	return gateway.RequestBodiesFull.Because(cause).WithRetry(time.Second)
}

// take and give require that the caller has locked the room's mu.

func (s *share) take(n int64) bool {
	if n <= 0 {
		return true
	}
	left, own := s.room.free-n, s.room.owners[s.owner]+n
	if left < 0 || own > greed*left {
		return false
	}
	s.room.free, s.room.owners[s.owner] = left, own
	s.held += n
	return true
}

func (s *share) give(n int64) {
	if n <= 0 {
		return
	}
	s.held -= n
	s.room.free += n
	if s.room.owners[s.owner] -= n; s.room.owners[s.owner] == 0 {
		delete(s.room.owners, s.owner)
	}
	close(s.room.freed)
	s.room.freed = make(chan struct{})
}

// fill counts n bytes that have arrived. It takes room in steps if the share is too small.
func (s *share) fill(ctx context.Context, n int64) error {
	s.room.mu.Lock()
	s.used += n
	used, held := s.used, s.held
	s.room.mu.Unlock()
	if used <= held {
		return nil
	}
	return s.grow(ctx, used+step)
}

// trim gives back the room that was taken in advance and is not filled.
func (s *share) trim() {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	s.give(s.held - s.used)
}

// release gives all room back.
func (s *share) release() {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	s.give(s.held)
}
