package table

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Op names a method of Store.
type Op string

// The operations of Store.
const (
	OpGet     Op = "get"
	OpInsert  Op = "insert"
	OpReplace Op = "replace"
	OpSwap    Op = "swap" // Fault gets the key of the first entity
	OpDelete  Op = "delete"
	OpScan    Op = "scan"
)

// Fault decides the result of one operation of a Mem. If err is nil, the operation runs
// normally. Otherwise the operation returns err, and apply says whether it changes the
// table nevertheless. Fault may block, because it is called without a lock.
type Fault func(ctx context.Context, op Op, key Key) (apply bool, err error)

// Mem is a table in memory, for tests. It can simulate failures before and after an
// operation is applied.
type Mem struct {
	mu     sync.Mutex
	rows   map[Key]Entity
	writes uint64
	fault  Fault
	offset time.Duration
}

var _ Store = (*Mem)(nil)

// NewMem returns an empty table.
func NewMem() *Mem { return &Mem{rows: map[Key]Entity{}} }

// SetFault makes f decide about every later operation; nil = no faults.
func (m *Mem) SetFault(f Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = f
}

// SetOffset sets the store's clock minus this process's clock.
func (m *Mem) SetOffset(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.offset = d
}

// Offset implements Store. It returns what SetOffset has set.
func (m *Mem) Offset() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.offset
}

// Get implements Store.
func (m *Mem) Get(ctx context.Context, key Key) (e Entity, err error) {
	if err := checkKey(key); err != nil {
		return Entity{}, err
	}
	return m.do(ctx, OpGet, key, func() (Entity, error) {
		row, ok := m.rows[key]
		if !ok {
			return Entity{}, ErrNotFound
		}
		row.Props = stored(row.Props)
		return row, nil
	})
}

// Insert implements Store.
func (m *Mem) Insert(ctx context.Context, e Entity) (Entity, error) {
	if err := check(e); err != nil {
		return Entity{}, err
	}
	return m.do(ctx, OpInsert, e.Key, func() (Entity, error) {
		if _, ok := m.rows[e.Key]; ok {
			return Entity{}, ErrExists
		}
		return m.put(e), nil
	})
}

// Replace implements Store.
func (m *Mem) Replace(ctx context.Context, e Entity) (Entity, error) {
	if err := check(e); err != nil {
		return Entity{}, err
	}
	return m.do(ctx, OpReplace, e.Key, func() (Entity, error) {
		if err := m.match(e); err != nil {
			return Entity{}, err
		}
		return m.put(e), nil
	})
}

// Swap implements Store.
func (m *Mem) Swap(ctx context.Context, list []Entity) error {
	if err := checkAll(list); err != nil {
		return err
	}
	_, err := m.do(ctx, OpSwap, list[0].Key, func() (Entity, error) {
		for _, e := range list {
			if err := m.match(e); err != nil {
				return Entity{}, err
			}
		}
		for _, e := range list {
			m.put(e)
		}
		return Entity{}, nil
	})
	return err
}

// Delete implements Store.
func (m *Mem) Delete(ctx context.Context, e Entity) error {
	if err := checkKey(e.Key); err != nil {
		return err
	}
	_, err := m.do(ctx, OpDelete, e.Key, func() (Entity, error) {
		if err := m.match(e); err != nil {
			return Entity{}, err
		}
		delete(m.rows, e.Key)
		return Entity{}, nil
	})
	return err
}

// Scan implements Store. It yields the partition as it was when the iteration began.
func (m *Mem) Scan(ctx context.Context, partition string) iter.Seq2[Entity, error] {
	return func(yield func(Entity, error) bool) {
		key := Key{Partition: partition}
		if err := checkKey(key); err != nil {
			yield(Entity{}, err)
			return
		}
		var rows []Entity
		_, err := m.do(ctx, OpScan, key, func() (Entity, error) {
			rows = m.partition(partition)
			return Entity{}, nil
		})
		if err != nil {
			yield(Entity{}, err)
			return
		}
		for _, row := range rows {
			if !yield(row, nil) {
				return
			}
		}
	}
}

// do calls apply with mu locked, unless ctx has ended or the fault prevents it.
func (m *Mem) do(ctx context.Context, op Op, key Key, apply func() (Entity, error)) (Entity, error) {
	if err := ctx.Err(); err != nil {
		return Entity{}, err
	}
	m.mu.Lock()
	fault := m.fault
	m.mu.Unlock()
	run, failure := true, error(nil)
	if fault != nil {
		run, failure = fault(ctx, op, key)
	}
	if failure != nil && !run {
		return Entity{}, failure
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e, err := apply()
	if failure != nil {
		return Entity{}, failure
	}
	return e, err
}

// match, put and partition require that the caller has locked mu.

func (m *Mem) match(e Entity) error {
	row, ok := m.rows[e.Key]
	if !ok {
		return ErrNotFound
	}
	if row.Rev != e.Rev {
		return ErrConflict
	}
	return nil
}

func (m *Mem) put(e Entity) Entity {
	m.writes++
	row := Entity{Key: e.Key, Rev: Rev{strconv.FormatUint(m.writes, 10)}, Props: stored(e.Props)}
	m.rows[e.Key] = row
	row.Props = stored(e.Props)
	return row
}

func (m *Mem) partition(name string) (rows []Entity) {
	for row := range maps.Values(m.rows) {
		if row.Partition == name {
			row.Props = stored(row.Props)
			rows = append(rows, row)
		}
	}
	slices.SortFunc(rows, func(a, b Entity) int { return strings.Compare(a.Row, b.Row) })
	return rows
}
