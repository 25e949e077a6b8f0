package journal

import (
	"context"
	"time"

	"aoaigateway/handler/journal/manifest"
)

// run commits groups until the writer is closed and its queue empty, or ctx ends.
func (w *Writer) run(ctx context.Context, c *committer) {
	defer close(w.stopped)
	defer w.abandon()
	for w.waitForLines(ctx, c) {
		group := w.take()
		if len(group) == 0 { // the last group took them already
			continue
		}
		started := time.Now()
		for ; len(group) > 0; group = w.takeFull() {
			if !c.commit(ctx, group) {
				return
			}
			w.release(group)
		}
		w.pause(ctx, started)
	}
	if ctx.Err() == nil {
		c.closeFile()
	}
}

// waitForLines returns true when there are lines to commit, and false when no more will come.
func (w *Writer) waitForLines(ctx context.Context, c *committer) bool {
	var idle <-chan time.Time
	if w.manifest != nil && c.file != nil {
		timer := time.NewTimer(manifest.CloseIdleAfter)
		defer timer.Stop()
		idle = timer.C
	}
	for {
		select {
		case <-w.wake:
			return ctx.Err() == nil
		case <-ctx.Done():
			return false
		case <-idle: // an open file that nobody touches would look like that of a dead process
			c.closeFile()
		case <-w.closing:
			used, _ := w.Backlog()
			return used > 0 && ctx.Err() == nil
		}
	}
}

// pause keeps the starts of two commits an Interval apart.
func (w *Writer) pause(ctx context.Context, started time.Time) {
	timer := time.NewTimer(w.o.Interval - time.Since(started))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.closing:
	case <-ctx.Done():
	}
}

// take removes the lines that fit one batch from the queue.
func (w *Writer) take() []*Pending {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, size := 0, int64(0)
	for _, p := range w.queue {
		if size+p.size() > MaxLine {
			break
		}
		size += p.size()
		n++
	}
	group := w.queue[:n:n]
	w.queue = append([]*Pending(nil), w.queue[n:]...)
	w.queued -= size
	return group
}

// takeFull returns the next group if more than one batch is waiting. Such a group gains nothing by waiting.
func (w *Writer) takeFull() []*Pending {
	w.mu.Lock()
	full := w.queued > MaxLine
	w.mu.Unlock()
	if !full {
		w.wakeForRest()
		return nil
	}
	return w.take()
}

// wakeForRest restores the token for lines that take left in the queue.
func (w *Writer) wakeForRest() {
	w.mu.Lock()
	left := len(w.queue)
	w.mu.Unlock()
	if left > 0 {
		w.wakeUp()
	}
}

// release frees the room of a durable group and then tells its waiters, so that these can rely on the room.
func (w *Writer) release(group []*Pending) {
	var size int64
	for _, p := range group {
		size += p.size()
		p.line = nil
	}
	w.mu.Lock()
	w.backlog -= size
	w.mu.Unlock()
	for _, p := range group {
		close(p.done)
	}
}
