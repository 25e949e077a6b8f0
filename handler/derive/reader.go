package derive

import (
	"context"
	"errors"
	"time"

	"aoaigateway/handler/derive/inflight"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal/format"
	"aoaigateway/handler/journal/manifest"
)

const (
	portionSize    = 4 << 20          // bytes of lines that a consumer gets in one call, unless one line is longer
	consumeTimeout = 30 * time.Second // time limit of one call of a consumer
)

// position is a place between the lines of a file. Its fields describe the next line.
type position struct {
	offset int64 // offset of the line's batch
	line   int
}

// reader hands the files of one process to one consumer.
type reader struct {
	d        *Worker
	consumer Consumer // nil = nothing is handed over
	advanced func(f manifest.File, offset int64, closed bool)
	inFlight *inflight.Set
	file     int
	at       position // the consumer has accepted everything before this position
	portion  []gateway.Entry
	size     int
	endedIDs []string // requests whose end records are in the portion
}

func (d *Worker) reader(c Consumer) *reader {
	return &reader{d: d, consumer: c, inFlight: inflight.New(d.o.Blobs)}
}

// read hands over the lines of the file before the offset to. An earlier pass has handed
// over the lines before the offset replay; these go to Replay.
func (r *reader) read(ctx context.Context, f manifest.File, to, replay int64) error {
	if r.at.offset >= to {
		return nil
	}
	if r.consumer == nil {
		r.accepted(f, position{offset: to})
		return nil
	}
	from := r.at
	defer r.clear()
	for b, err := range format.Read(ctx, r.d.o.Blobs, f.Name, from.offset) {
		if _, broken := errors.AsType[*format.BreakError](err); broken {
			r.d.o.Logger.Error("a journal file is damaged; its remaining lines are skipped", "file", f.Name, "error", err)
			break
		}
		if err != nil {
			return err
		}
		if b.Offset >= to {
			break
		}
		skip := 0
		if b.Offset == from.offset {
			skip = from.line
		}
		old := b.Offset < replay
		if err := r.addBatch(ctx, f, b, skip, old); err != nil {
			return err
		}
		end := b.Offset + b.Length
		if r.size >= portionSize || end >= to || old && end >= replay {
			if err := r.deliver(ctx, f, position{offset: end}, old); err != nil {
				return err
			}
		}
	}
	return r.deliver(ctx, f, position{offset: to}, false)
}

// addBatch adds the lines of one batch to the portion.
func (r *reader) addBatch(ctx context.Context, f manifest.File, b format.Batch, skip int, old bool) error {
	r.inFlight.AddListed(b)
	for i, raw := range b.Records {
		if i < skip {
			continue
		}
		if err := r.addLine(ctx, f, b, i); err != nil {
			return err
		}
		if r.size += len(raw); r.size >= portionSize && i+1 < len(b.Records) {
			if err := r.deliver(ctx, f, position{b.Offset, i + 1}, old); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *reader) addLine(ctx context.Context, f manifest.File, b format.Batch, i int) error {
	raw := b.Records[i]
	t, id := inflight.Kind(raw)
	switch t {
	case gateway.Begin:
		r.inFlight.AddBegin(id, f.Name, b.Offset, raw)
		return nil
	case gateway.End:
		r.inFlight.SetEnd(id, f.Name, b.Offset)
		r.endedIDs = append(r.endedIDs, id)
	case gateway.Amend, gateway.Incomplete:
	}
	line, err := r.inFlight.Complete(ctx, raw)
	if errors.Is(err, inflight.ErrMalformed) {
		r.d.o.Logger.Error("a line of the journal is not a record and is skipped", "file", f.Name, "offset", b.Offset, "line", i, "error", err)
		return nil
	}
	if err != nil {
		return err
	}
	if line.Request != nil {
		r.size += line.Request.ContentSize()
	}
	r.portion = append(r.portion, gateway.Entry{Line: line, File: f.Name, Offset: b.Offset, Index: i, Chain: b.Hash})
	return nil
}

// deliver hands the portion to the consumer and moves to the position next.
func (r *reader) deliver(ctx context.Context, f manifest.File, next position, old bool) error {
	if len(r.portion) > 0 {
		ctx, cancel := context.WithTimeout(ctx, consumeTimeout)
		defer cancel()
		consume := r.consumer.Take
		if old {
			consume = r.consumer.Replay
		}
		if err := consume(ctx, f.Name, r.portion); err != nil {
			return err
		}
	}
	for _, id := range r.endedIDs {
		r.inFlight.Remove(id)
	}
	r.clear()
	r.accepted(f, next)
	return nil
}

func (r *reader) clear() { r.portion, r.endedIDs, r.size = nil, nil, 0 }

func (r *reader) accepted(f manifest.File, next position) {
	if next.offset > r.at.offset || next.offset == r.at.offset && next.line > r.at.line {
		r.at = next
	}
	r.advanced(f, r.at.offset, false)
}

// close tells the consumer that the file is complete, and moves to the next file.
func (r *reader) close(ctx context.Context, f manifest.File) error {
	if r.consumer != nil {
		ctx, cancel := context.WithTimeout(ctx, consumeTimeout)
		defer cancel()
		if err := r.consumer.Close(ctx, f.Name); err != nil {
			return err
		}
	}
	r.advanced(f, r.at.offset, true)
	r.file, r.at = f.Number+1, position{}
	return nil
}
