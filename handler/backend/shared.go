package backend

import (
	"context"
	"errors"
	"sync"
	"time"

	"aoaigateway/handler/table"
)

// One row a place in the table of regions, all in one partition: {region, deployment,
// openUntil, throttled}. openUntil is only ever extended, so that writers cannot undo each
// other; it says nothing once it is over.
const (
	sharedPartition = "regions"
	sharedPeriod    = 5 * time.Second
	sharedFirstWait = 200 * time.Millisecond // of the first pick, for the first reading
	sharedTimeout   = 4 * time.Second        // of one reading or writing
)

// shared is what instances tell each other of open breakers. One goroutine reads and
// writes; the request's path only leaves a word. A nil shared tells and knows nothing.
type sharedBreakers struct {
	store     table.Store
	pool      *Pool
	firstRead chan struct{} // closed once the first reading is over, or waited for long enough
	once      sync.Once
	stop      context.CancelFunc
	ended     chan struct{}

	mu       sync.Mutex
	pending  map[deploymentKey]opening
	wake     chan struct{}
	lastRead map[deploymentKey]time.Time // openUntil as last read or written; the goroutine's own
}

type opening struct {
	until     time.Time // by the store's clock
	throttled bool
}

func newShared(store table.Store, pool *Pool) *sharedBreakers {
	if store == nil {
		return nil
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &sharedBreakers{
		store: store, pool: pool, firstRead: make(chan struct{}), stop: stop, ended: make(chan struct{}),
		pending: map[deploymentKey]opening{}, wake: make(chan struct{}, 1), lastRead: map[deploymentKey]time.Time{},
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

// await gives the first reading a moment, once for all callers.
func (s *sharedBreakers) awaitFirstRead(ctx context.Context) {
	if s == nil {
		return
	}
	select {
	case <-s.firstRead:
		return
	default:
	}
	s.once.Do(func() { time.AfterFunc(sharedFirstWait, s.begin()) })
	select {
	case <-s.firstRead:
	case <-ctx.Done():
	}
}

// begin returns what ends the waiting.
func (s *sharedBreakers) begin() func() {
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		select {
		case <-s.firstRead:
		default:
			close(s.firstRead)
		}
	}
}

// tell leaves word that a breaker stays open for wait.
func (s *sharedBreakers) publish(at deploymentKey, wait time.Duration, throttled bool) {
	if s == nil {
		return
	}
	until := s.now().Add(wait)
	s.mu.Lock()
	if until.After(s.pending[at].until) {
		s.pending[at] = opening{until, throttled}
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *sharedBreakers) now() time.Time { return time.Now().Add(s.store.Offset()) }

func (s *sharedBreakers) run(ctx context.Context) {
	defer close(s.ended)
	tick := time.NewTicker(sharedPeriod)
	defer tick.Stop()
	s.read(ctx)
	s.begin()()
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

// read opens breakers that others found to be open. A row is learned once: a breaker that
// closed since, by a probe of ours, stays closed until there is news.
func (s *sharedBreakers) read(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, sharedTimeout)
	defer cancel()
	for e, err := range s.store.Scan(ctx, sharedPartition) {
		if err != nil {
			s.failed(ctx, "read", err)
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
	news := s.pending
	s.pending = map[deploymentKey]opening{}
	s.mu.Unlock()
	for at, o := range news {
		if !o.until.After(s.lastRead[at]) || !o.until.After(s.now()) {
			continue
		}
		if err := s.extend(ctx, at, o); err != nil {
			s.failed(ctx, "write", err)
			s.requeue(at, o)
		}
	}
}

// again keeps what could not be written for the next period.
func (s *sharedBreakers) requeue(at deploymentKey, o opening) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.until.After(s.pending[at].until) {
		s.pending[at] = o
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

func (s *sharedBreakers) failed(ctx context.Context, what string, err error) {
	if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		s.pool.options.Logger.Warn("shared breaker state not reached", "operation", what, "error", err)
	}
}
