package backend

import (
	"context"
	"errors"
	"sync"
	"time"

	"aoaigateway/handler/table"
)

// The table of regions has one row for each deployment, all in one partition, with the
// properties {v, region, deployment, openUntil, throttled}. openUntil is only ever
// extended, so writers cannot undo each other. A row whose openUntil has passed has no
// meaning.
const (
	sharedPartition = "regions"
	sharedPeriod    = 5 * time.Second
	sharedFirstWait = 200 * time.Millisecond // how long the first call waits for the first reading
	sharedTimeout   = 4 * time.Second        // of one reading or writing
)

// sharedBreakers exchanges open breakers with the other instances. One goroutine reads and
// writes; publish only leaves an entry for it. A nil sharedBreakers does nothing.
type sharedBreakers struct {
	store     table.Store
	pool      *Pool
	firstRead chan struct{} // closed after the first reading or its time limit
	once      sync.Once
	stop      context.CancelFunc
	ended     chan struct{}
	wake      chan struct{} // capacity 1: something is pending

	mu      sync.Mutex
	pending map[deploymentKey]opening // still to be written

	lastRead map[deploymentKey]time.Time // openUntil as last read or written; only the goroutine uses it
}

type opening struct {
	until     time.Time // by the store's clock
	throttled bool
}

func newSharedBreakers(store table.Store, pool *Pool) *sharedBreakers {
	if store == nil {
		return nil
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &sharedBreakers{
		store: store, pool: pool, firstRead: make(chan struct{}), stop: stop, ended: make(chan struct{}),
		wake: make(chan struct{}, 1), pending: map[deploymentKey]opening{}, lastRead: map[deploymentKey]time.Time{},
	}
	go s.run(ctx)
	return s
}

func (s *sharedBreakers) close() {
	if s != nil {
		s.stop()
		<-s.ended
	}
}

// awaitFirstRead waits for the first reading, at most sharedFirstWait in all.
func (s *sharedBreakers) awaitFirstRead(ctx context.Context) {
	if s == nil {
		return
	}
	select {
	case <-s.firstRead:
		return
	default:
	}
	s.once.Do(func() { time.AfterFunc(sharedFirstWait, s.endFirstWait) })
	select {
	case <-s.firstRead:
	case <-ctx.Done():
	}
}

func (s *sharedBreakers) endFirstWait() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.firstRead:
	default:
		close(s.firstRead)
	}
}

// publish has the other instances know that a breaker stays open for wait.
func (s *sharedBreakers) publish(at deploymentKey, wait time.Duration, throttled bool) {
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
func (s *sharedBreakers) add(at deploymentKey, o opening) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.until.After(s.pending[at].until) {
		s.pending[at] = o
	}
}

func (s *sharedBreakers) now() time.Time { return time.Now().Add(s.store.Offset()) }

func (s *sharedBreakers) run(ctx context.Context) {
	defer close(s.ended)
	tick := time.NewTicker(sharedPeriod)
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
func (s *sharedBreakers) read(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, sharedTimeout)
	defer cancel()
	for e, err := range s.store.Scan(ctx, sharedPartition) {
		if err != nil {
			s.logFailure(ctx, "read", err)
			return
		}
		s.learn(e)
	}
}

func (s *sharedBreakers) learn(e table.Entity) {
	region, _ := e.Props["region"].(string)
	deployment, _ := e.Props["deployment"].(string)
	until, _ := e.Props["openUntil"].(time.Time)
	throttled, _ := e.Props["throttled"].(bool)
	at := deploymentKey{region, deployment}
	if !until.After(s.lastRead[at]) {
		return
	}
	s.lastRead[at] = until
	if wait := until.Sub(s.now()); wait > 0 && s.pool.has(region) {
		s.pool.learn(at, wait, throttled)
	}
}

func (s *sharedBreakers) write(ctx context.Context) {
	s.mu.Lock()
	pending := s.pending
	s.pending = map[deploymentKey]opening{}
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
func (s *sharedBreakers) extend(ctx context.Context, at deploymentKey, o opening) error {
	ctx, cancel := context.WithTimeout(ctx, sharedTimeout)
	defer cancel()
	row := table.Entity{Key: table.Key{Partition: sharedPartition, Row: at.region + "|" + at.deployment}, Props: map[string]any{
		"region": at.region, "deployment": at.deployment, "openUntil": o.until.UTC(), "throttled": o.throttled,
	}}
	for {
		before, err := s.store.Get(ctx, row.Key)
		switch {
		case errors.Is(err, table.ErrNotFound):
			row.Rev = table.Rev{}
			_, err = s.store.Insert(ctx, row)
		case err != nil:
			return err
		default:
			if until, _ := before.Props["openUntil"].(time.Time); !o.until.After(until) {
				s.learn(before)
				return nil
			}
			row.Rev = before.Rev
			_, err = s.store.Replace(ctx, row)
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

func (s *sharedBreakers) logFailure(ctx context.Context, operation string, err error) {
	if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		s.pool.options.Logger.Warn("shared breaker state not reached", "operation", operation, "error", err)
	}
}
