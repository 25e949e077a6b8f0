package quota

import (
	"context"
	"errors"
	"strconv"
	"time"

	"aoaigateway/handler/quota/state"
	"aoaigateway/handler/table"
)

const storeCallTimeout = time.Second // limit for one operation of the store

// writer changes one entity by compare-and-swap, one write at a time. It handles entities,
// revisions and write ids; leases, slots and waiting requests are handled elsewhere. Only
// the goroutine of its counter's run uses it.
type writer struct {
	store  table.Store
	key    table.Key
	name   string   // unique among all writers; write ids begin with it
	writes int64    // how many writes this writer has made
	latest *reading // the newest reading or write; nil = none, or none that can be used
}

// reading is the content of the entity at some moment.
type reading struct {
	state.Counter
	rev    table.Rev
	exists bool
	at     time.Time
}

// write is one compare-and-swap. It is never changed, so that it can be sent again
// unchanged.
type write struct {
	id   string
	base *reading
	next state.Counter
}

// outcome says whether a write was applied.
type outcome int

const (
	applied    outcome = iota
	notYet             // not applied so far, but the store may still receive it
	notApplied         // not applied, and it cannot be any more
	unknown            // it cannot be found out
)

// newWrite makes a write that replaces base by next, and gives it an id.
func (w *writer) newWrite(base *reading, next state.Counter) *write {
	w.writes++
	wr := &write{id: w.name + "." + strconv.FormatInt(w.writes, base36), base: base, next: next}
	wr.next.RecordWrite(wr.id)
	wr.next.Prune()
	return wr
}

// load reads the entity into latest.
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
// false and no error: the store may have applied the write, and the conflict may come from
// a duplicate of it that the network sent. Reading the entity shows which.
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

// outcome finds out whether a write was applied, from a reading that was made after the
// write was sent.
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
