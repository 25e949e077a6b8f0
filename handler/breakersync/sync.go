// Package breakersync exchanges the open breakers of deployments between the instances of
// the gateway, through one table. Only openings with a known end are exchanged.
//
// The table has one row for each deployment, all in one partition, with the properties
// {version, region, deployment, openUntil, throttled}. openUntil is only ever extended, so
// writers cannot undo each other. A row whose openUntil has passed has no meaning.
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
	formatVersion = 1 // of the rows that this program writes, and the newest that it reads
	partition     = "regions"
	period        = 5 * time.Second
	firstWait     = 200 * time.Millisecond // how long the first call waits for the first reading
	timeout       = 4 * time.Second        // of one reading or writing
)

// Key names a deployment in a region. Deployment is empty for calls without a model.
type Key struct{ Region, Deployment string }

// Options of a Sync.
type Options struct {
	Table  table.Store // nil = nothing is exchanged
	Logger *slog.Logger

	// Learn is called, on one goroutine, when another instance found that a breaker should
	// stay open for wait.
	Learn func(at Key, wait time.Duration, throttled bool)
}

// Sync exchanges open breakers with the other instances. One goroutine reads and writes;
// Publish only leaves an entry for it. A nil Sync does nothing.
type Sync struct {
	options   Options
	firstRead chan struct{} // closed after the first reading or its time limit
	once      sync.Once
	stop      context.CancelFunc
	ended     chan struct{}
	wake      chan struct{} // capacity 1: something is pending

	mu      sync.Mutex
	pending map[Key]opening // still to be written

	lastRead map[Key]time.Time // openUntil as last read or written; only the goroutine uses it
}

type opening struct {
	until     time.Time // by the store's clock
	throttled bool
}

// New starts the exchange. It returns nil if there is no table.
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

// Close ends the exchange.
func (s *Sync) Close() {
	if s != nil {
		s.stop()
		<-s.ended
	}
}

// AwaitFirstRead waits for the first reading, at most firstWait in all.
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

// Publish lets the other instances know that a breaker stays open for wait.
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

// add queues what is to be written, unless a later time is queued already.
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
			s.write(ctx) // what could not be written before
		}
	}
}

// read opens the breakers that other instances found open. Each row is applied once: a
// breaker that a probe of ours has closed since stays closed until openUntil moves.
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
			s.add(at, o) // for the next period
		}
	}
}

// extend moves a row's openUntil forward, whoever else writes.
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
		s.options.Logger.Warn("shared breaker state not reached", "operation", operation, "error", err)
	}
}
