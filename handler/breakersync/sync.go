// Package breakersync shares the open breakers of deployments among the instances of the
// gateway, through one table. It shares only breakers with a known end.
//
// The table has one row for each deployment, all in one partition, with the properties
// {version, region, deployment, openUntil, throttled}. Writers only ever set openUntil to a
// later time, so no writer undoes the work of another. A row whose openUntil has passed has
// no meaning.
package breakersync

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/table"
)

const (
	formatVersion = 1 // version of the rows that this program writes, and the newest version that it can read
	partition     = "regions"
	period        = 5 * time.Second
	firstWait     = 200 * time.Millisecond // how long the first call waits until the table was read
	timeout       = 4 * time.Second        // limit for one reading or one writing of the table
)

// Key identifies a deployment in a region. Deployment is empty for calls without a model.
type Key struct{ Region, Deployment string }

// Options of a Sync.
type Options struct {
	Table  table.Store // nil = breakers are not shared
	Logger *slog.Logger

	// Learn is called when another instance has found that a breaker should stay open for
	// wait. All calls are made on one goroutine.
	Learn func(at Key, wait time.Duration, throttled bool)
}

// Sync shares open breakers with the other instances. One goroutine reads and writes the
// table; Publish only queues an entry for it. A nil Sync does nothing.
type Sync struct {
	options   Options
	firstRead chan struct{} // closed after the first reading, or when firstWait has ended
	once      sync.Once
	stop      context.CancelFunc
	ended     chan struct{}
	wake      chan struct{} // has capacity 1; an element means that pending is not empty

	mu      sync.Mutex
	pending map[Key]opening // not written yet

	lastRead map[Key]time.Time // openUntil as last read or written; used only on the goroutine
}

type opening struct {
	until     time.Time // by the clock of the store
	throttled bool
}

// New starts the sharing. It returns nil if o has no table.
func New(o Options) *Sync {
	if o.Table == nil {
		return nil
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Sync{
		options: o, firstRead: make(chan struct{}), stop: stop, ended: make(chan struct{}),
		wake: make(chan struct{}, 1), pending: map[Key]opening{}, lastRead: map[Key]time.Time{},
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

// Publish tells the other instances that a breaker stays open for wait.
func (s *Sync) Publish(at Key, wait time.Duration, throttled bool) {
	if s == nil {
		return
	}
	s.add(at, opening{s.now().Add(wait), throttled})
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// add queues an opening to be written, unless a later one is queued already.
func (s *Sync) add(at Key, o opening) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.until.After(s.pending[at].until) {
		s.pending[at] = o
	}
}

func (s *Sync) now() time.Time { return time.Now().Add(s.options.Table.Offset()) }

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

// read opens the breakers that other instances have opened. Each row is applied once: if a
// probe of this instance closes the breaker, it stays closed until openUntil changes.
func (s *Sync) read(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for e, err := range s.options.Table.Scan(ctx, partition) {
		if err != nil {
			s.logFailure(ctx, "read", err)
			return
		}
		if err := checkVersion(e); err != nil {
			s.logFailure(ctx, "read", err)
			continue
		}
		s.learn(e)
	}
}

func checkVersion(e table.Entity) error {
	version, _ := e.Props["version"].(int64)
	return gateway.CheckVersion("breakersync: row "+e.Row, int(version), formatVersion)
}

func (s *Sync) learn(e table.Entity) {
	region, _ := e.Props["region"].(string)
	deployment, _ := e.Props["deployment"].(string)
	until, _ := e.Props["openUntil"].(time.Time)
	throttled, _ := e.Props["throttled"].(bool)
	at := Key{region, deployment}
	if !until.After(s.lastRead[at]) {
		return
	}
	s.lastRead[at] = until
	if wait := until.Sub(s.now()); wait > 0 {
		s.options.Learn(at, wait, throttled)
	}
}

func (s *Sync) write(ctx context.Context) {
	s.mu.Lock()
	pending := s.pending
	s.pending = map[Key]opening{}
	s.mu.Unlock()
	for at, o := range pending {
		if !o.until.After(s.lastRead[at]) || !o.until.After(s.now()) {
			continue
		}
		if err := s.extend(ctx, at, o); err != nil {
			s.logFailure(ctx, "write", err)
			s.add(at, o) // tried again in the next period
		}
	}
}

// extend sets a row's openUntil to a later time. If another writer has changed the row, it
// tries again.
func (s *Sync) extend(ctx context.Context, at Key, o opening) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	row := table.Entity{Key: table.Key{Partition: partition, Row: at.Region + "|" + at.Deployment}, Props: map[string]any{
		"version": int64(formatVersion), "region": at.Region, "deployment": at.Deployment, "openUntil": o.until.UTC(), "throttled": o.throttled,
	}}
	for {
		before, err := s.options.Table.Get(ctx, row.Key)
		switch {
		case errors.Is(err, table.ErrNotFound):
			row.Rev = table.Rev{}
			_, err = s.options.Table.Insert(ctx, row)
		case err != nil:
			return err
		default:
			if err := checkVersion(before); err != nil {
				return err
			}
			if until, _ := before.Props["openUntil"].(time.Time); !o.until.After(until) {
				s.learn(before)
				return nil
			}
			row.Rev = before.Rev
			_, err = s.options.Table.Replace(ctx, row)
		}
		if err == nil {
			s.lastRead[at] = o.until.UTC()
			return nil
		}
		if !errors.Is(err, table.ErrExists) && !errors.Is(err, table.ErrConflict) && !errors.Is(err, table.ErrNotFound) {
			return err
		}
	}
}

func (s *Sync) logFailure(ctx context.Context, operation string, err error) {
	if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		s.options.Logger.Warn("the table of shared breakers cannot be read or written; breakers are not shared until it can",
			"operation", operation, "error", err)
	}
}
