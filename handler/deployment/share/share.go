// Package share tells the instances of the gateway which deployments are throttled or
// unavailable, through one table. It shares only what has a known end.
//
// The table has one row for each deployment, all in one partition, with the properties
// {version, region, deployment, closings}. closings is a JSON list; writers only ever add
// to it or extend an entry, so no writer undoes the work of another. An entry whose time
// has passed has no meaning and is removed by the next writer.
package share

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"aoaigateway/handler/deployment"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/table"
)

const (
	formatVersion = 1 // version of the rows that this program writes, and the newest version that it can read
	partition     = "regions"
	period        = 5 * time.Second
	firstWait     = 200 * time.Millisecond // how long the first call waits until the table was read
	timeout       = 4 * time.Second        // limit for one reading or one writing of the table
	maxClosings   = 8                      // in one row
)

// Key identifies a deployment in a region.
type Key struct{ Region, Deployment string }

// Options of a Sync.
type Options struct {
	Table  table.Store // nil = nothing is shared
	Logger *slog.Logger

	// Learn is called when another instance has found a closing. All calls are made on one
	// goroutine.
	Learn func(at Key, c deployment.Closing)
}

// Sync shares closings with the other instances. One goroutine reads and writes the table;
// Publish only queues an entry for it. A nil Sync does nothing.
type Sync struct {
	options   Options
	firstRead chan struct{} // closed after the first reading, or when firstWait has ended
	once      sync.Once
	stop      context.CancelFunc
	ended     chan struct{}
	wake      chan struct{} // has capacity 1; an element means that pending is not empty

	mu      sync.Mutex
	pending map[Key][]deployment.Closing // not written yet, by the clock of the store

	known map[Key][]deployment.Closing // as last read or written; used only on the goroutine
}

// New starts the sharing. It returns nil if o has no table.
func New(o Options) *Sync {
	if o.Table == nil {
		return nil
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Sync{
		options: o, firstRead: make(chan struct{}), stop: stop, ended: make(chan struct{}),
		wake: make(chan struct{}, 1), pending: map[Key][]deployment.Closing{}, known: map[Key][]deployment.Closing{},
	}
	go s.run(ctx)
	return s
}

// Close ends the sharing.
func (s *Sync) Close() {
	if s != nil {
		s.stop()
		<-s.ended
	}
}

// AwaitFirstRead waits until the table was read for the first time, but at most firstWait
// after New.
func (s *Sync) AwaitFirstRead(ctx context.Context) {
	if s == nil {
		return
	}
	select {
	case <-s.firstRead:
		return
	default:
	}
	s.once.Do(func() { time.AfterFunc(firstWait, s.endFirstWait) })
	select {
	case <-s.firstRead:
	case <-ctx.Done():
	}
}

func (s *Sync) endFirstWait() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.firstRead:
	default:
		close(s.firstRead)
	}
}

// Publish tells the other instances of a closing.
func (s *Sync) Publish(at Key, c deployment.Closing) {
	if s == nil {
		return
	}
	c.Until = c.Until.Add(s.options.Table.Offset()).UTC()
	s.add(at, []deployment.Closing{c})
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Sync) add(at Key, list []deployment.Closing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending[at], _ = merge(s.pending[at], list, s.now())
}

func (s *Sync) now() time.Time { return time.Now().Add(s.options.Table.Offset()) }

// merge returns the entries of both lists that are not over. more reports whether list has
// something that into lacks.
func merge(into, list []deployment.Closing, now time.Time) (merged []deployment.Closing, more bool) {
	over := func(c deployment.Closing) bool { return !c.Until.After(now) }
	merged = slices.DeleteFunc(slices.Clone(into), over)
	for _, c := range list {
		covers := func(old deployment.Closing) bool {
			return old.Why == c.Why && old.Size <= c.Size && !old.Until.Before(c.Until)
		}
		if over(c) || slices.ContainsFunc(merged, covers) {
			continue
		}
		more = true
		merged = slices.DeleteFunc(merged, func(old deployment.Closing) bool {
			return old.Why == c.Why && old.Size >= c.Size && !old.Until.After(c.Until)
		})
		merged = append(merged, c)
	}
	slices.SortFunc(merged, func(a, b deployment.Closing) int { return b.Until.Compare(a.Until) })
	return merged[:min(len(merged), maxClosings)], more
}

func (s *Sync) run(ctx context.Context) {
	defer close(s.ended)
	tick := time.NewTicker(period)
	defer tick.Stop()
	s.read(ctx)
	s.endFirstWait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
			s.write(ctx)
		case <-tick.C:
			s.read(ctx)
			s.write(ctx) // writes what an earlier period could not write
		}
	}
}

// read learns what other instances have found. Each entry is learned once: if this instance
// finds that the deployment works, an entry that it knows already does not close it again.
func (s *Sync) read(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for e, err := range s.options.Table.Scan(ctx, partition) {
		if err == nil {
			var list []deployment.Closing
			if list, err = closings(e); err == nil {
				s.learn(e, list)
				continue
			}
			s.logFailure(ctx, "read", err)
			continue
		}
		s.logFailure(ctx, "read", err)
		return
	}
}

// closings returns the list in a row. A list that is no JSON counts as empty.
func closings(e table.Entity) (list []deployment.Closing, err error) {
	version, _ := e.Props["version"].(int64)
	if err := gateway.CheckVersion("share: row "+e.Row, int(version), formatVersion); err != nil {
		return nil, err
	}
	text, _ := e.Props["closings"].(string)
	if json.Unmarshal([]byte(text), &list) != nil {
		return nil, nil
	}
	return list, nil
}

func (s *Sync) learn(e table.Entity, list []deployment.Closing) {
	region, _ := e.Props["region"].(string)
	name, _ := e.Props["deployment"].(string)
	at := Key{region, name}
	for _, c := range list {
		known, isNew := merge(s.known[at], []deployment.Closing{c}, s.now())
		if s.known[at] = known; isNew {
			c.Until = c.Until.Add(-s.options.Table.Offset())
			s.options.Learn(at, c)
		}
	}
}

func (s *Sync) write(ctx context.Context) {
	s.mu.Lock()
	pending := s.pending
	s.pending = map[Key][]deployment.Closing{}
	s.mu.Unlock()
	for at, list := range pending {
		if _, more := merge(s.known[at], list, s.now()); !more {
			continue
		}
		if err := s.extend(ctx, at, list); err != nil {
			s.logFailure(ctx, "write", err)
			s.add(at, list) // tried again in the next period
		}
	}
}

// extend adds closings to a row. If another writer has changed the row, it tries again.
func (s *Sync) extend(ctx context.Context, at Key, list []deployment.Closing) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	key := table.Key{Partition: partition, Row: at.Region + "|" + at.Deployment}
	for {
		before, err := s.options.Table.Get(ctx, key)
		if err != nil && !errors.Is(err, table.ErrNotFound) {
			return err
		}
		found := err == nil
		var old []deployment.Closing
		if found {
			if old, err = closings(before); err != nil {
				return err
			}
			s.learn(before, old)
		}
		merged, more := merge(old, list, s.now())
		if !more {
			return nil
		}
		text, err := json.Marshal(merged)
		if err != nil {
			return err
		}
		row := table.Entity{Key: key, Rev: before.Rev, Props: map[string]any{
			"version": int64(formatVersion), "region": at.Region, "deployment": at.Deployment, "closings": string(text),
		}}
		if found {
			_, err = s.options.Table.Replace(ctx, row)
		} else {
			_, err = s.options.Table.Insert(ctx, row)
		}
		if err == nil {
			s.known[at] = merged
			return nil
		}
		if !errors.Is(err, table.ErrExists) && !errors.Is(err, table.ErrConflict) && !errors.Is(err, table.ErrNotFound) {
			return err
		}
	}
}

func (s *Sync) logFailure(ctx context.Context, operation string, err error) {
	if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		s.options.Logger.Warn("the table of throttled and unavailable deployments cannot be read or written; it will be tried again",
			"operation", operation, "error", err)
	}
}
