package quota

import (
	"context"
	"errors"
	"strconv"
	"time"

	"aoaigateway/handler/quota/state"
	"aoaigateway/handler/table"
)

const storeCallTimeout = time.Second // of one store operation

// writer changes one entity by compare-and-swap, one write at a time. It knows entities,
// revisions and write ids, but nothing of leases, slots and waiting requests. It belongs
// to the goroutine that runs its counter.
type writer struct {
	store  table.Store
	key    table.Key
	name   string   // no other writer has it; it begins the ids of this writer's writes
	writes int64    // that this writer made
	latest *reading // the newest reading or write; nil = none that can be used
}

// reading is the entity as it was at some moment.
type reading struct {
	state.Counter
	rev    table.Rev
	exists bool
	at     time.Time
}

// write is one compare-and-swap. It is never changed, so that it can be sent again as it is.
type write struct {
	id   string
	base *reading
	next state.Counter
}

// outcome is what became of a write.
type outcome int

const (
	applied    outcome = iota
	notYet             // not applied so far, but it may still be on its way
	notApplied         // and it never will be
	unknown            // nothing can tell any more
)

// newWrite gives the write of next over base its id.
func (w *writer) newWrite(base *reading, next state.Counter) *write {
	w.writes++
	wr := &write{id: w.name + "." + strconv.FormatInt(w.writes, base36), base: base, next: next}
	wr.next.RecordWrite(wr.id)
	wr.next.Prune()
	return wr
}

// load reads the entity.
func (w *writer) load() error {
	ctx, cancel := context.WithTimeout(context.Background(), storeCallTimeout)
	defer cancel()
	e, err := w.store.Get(ctx, w.key)
	r := &reading{Counter: state.New(), at: time.Now()}
	if err == nil {
		r.rev, r.exists = e.Rev, true
		r.Counter, err = state.Parse(e)
	}
	if err != nil && !errors.Is(err, table.ErrNotFound) {
		return err
	}
	w.latest = r
	return nil
}

// send sends wr and reports whether it was certainly applied. After a conflict it returns
// neither true nor an error: a conflict may be the echo of our own write, which a network
// component repeated. Reading the entity tells.
func (w *writer) send(wr *write) (bool, error) {
	props, err := wr.next.Props()
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeCallTimeout)
	defer cancel()
	e := table.Entity{Key: w.key, Rev: wr.base.rev, Props: props}
	if wr.base.exists {
		e, err = w.store.Replace(ctx, e)
	} else {
		e, err = w.store.Insert(ctx, e)
	}
	switch {
	case err == nil:
		w.latest = &reading{Counter: wr.next, rev: e.Rev, exists: true, at: time.Now()}
		return true, nil
	case errors.Is(err, table.ErrConflict), errors.Is(err, table.ErrExists), errors.Is(err, table.ErrNotFound):
		return false, nil
	}
	return false, err
}

// outcome tells what became of a write, from a reading made after it was sent.
func (wr *write) outcome(now *reading) outcome {
	switch {
	case now.HasWrite(wr.id):
		return applied
	case now.exists == wr.base.exists && now.rev == wr.base.rev:
		return notYet
	case now.RemembersSince(wr.base.Counter):
		return notApplied
	}
	return unknown
}
