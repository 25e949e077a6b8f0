package usage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/table"
)

// formatVersion is the version of the entities that this program writes, and the newest
// version that it can read.
const formatVersion = 1

// The states of a file's entity.
const (
	open     = "open"
	rolledUp = "rolled-up"
)

// entity is one entity of the table. It has the counts of a file or of an hour.
type entity struct {
	key    table.Key
	rev    table.Rev
	state  string
	offset int64 // offset of the batch with the last counted entry
	index  int   // index of that entry in its batch; -1 = no entry of the batch is counted
	rows   map[Key]Counts
}

func (e *entity) add(k Key, c Counts) {
	if e.rows == nil {
		e.rows = map[Key]Counts{}
	}
	sum := e.rows[k]
	sum.add(c)
	e.rows[k] = sum
}

func (e *entity) merge(rows map[Key]Counts) {
	for k, c := range rows {
		e.add(k, c)
	}
}

// isNew reports whether entry is not counted yet.
func (e *entity) isNew(entry *gateway.Entry) bool {
	return entry.Offset > e.offset || entry.Offset == e.offset && entry.Index > e.index
}

// plus returns a copy of e that also counts those entries that are new.
func (e *entity) plus(entries []gateway.Entry) entity {
	next := *e
	next.rows = map[Key]Counts{}
	next.merge(e.rows)
	for i := range entries {
		if next.isNew(&entries[i]) {
			next.offset, next.index = entries[i].Offset, entries[i].Index
			next.count(&entries[i].Line)
		}
	}
	return next
}

// The counts are stored in the binary properties c0, c1, …: a JSON array of rows,
// compressed with gzip and cut into parts.
const (
	maxPart  = 64 << 10
	maxParts = 15 // an entity holds at most 1 MiB, about 50,000 rows
)

func (e *entity) encode() (table.Entity, error) {
	props := map[string]any{
		"version": int64(formatVersion), "state": e.state, "offset": e.offset, "index": int64(e.index),
	}
	var buf bytes.Buffer
	if len(e.rows) > 0 {
		gz := gzip.NewWriter(&buf)
		if err := json.NewEncoder(gz).Encode(e.list()); err != nil {
			return table.Entity{}, err
		}
		_ = gz.Close() // cannot fail: it writes to memory
	}
	if buf.Len() > maxPart*maxParts {
		return table.Entity{}, fmt.Errorf("usage: the %d rows are too large for the entity %s of partition %s",
			len(e.rows), e.key.Row, e.key.Partition)
	}
	for i := 0; buf.Len() > 0; i++ {
		props["c"+strconv.Itoa(i)] = bytes.Clone(buf.Next(maxPart))
	}
	return table.Entity{Key: e.key, Rev: e.rev, Props: props}, nil
}

func (e *entity) list() []Row {
	rows := make([]Row, 0, len(e.rows))
	for k, c := range e.rows {
		rows = append(rows, Row{k, c})
	}
	slices.SortFunc(rows, func(a, b Row) int { return strings.Compare(fmt.Sprint(a.Key), fmt.Sprint(b.Key)) })
	return rows
}

func decode(stored table.Entity) (entity, error) {
	e := entity{key: stored.Key, rev: stored.Rev}
	where := fmt.Sprintf("usage: entity %s of partition %s", stored.Row, stored.Partition)
	version, _ := stored.Props["version"].(int64)
	if err := gateway.CheckVersion(where, int(version), formatVersion); err != nil {
		return e, err
	}
	var ok bool
	if e.state, ok = stored.Props["state"].(string); !ok {
		return e, fmt.Errorf("%s lacks the property state, which this gateway always writes", where)
	}
	e.offset, _ = stored.Props["offset"].(int64)
	index, _ := stored.Props["index"].(int64)
	e.index = int(index)
	var parts []byte
	for i := 0; ; i++ {
		part, ok := stored.Props["c"+strconv.Itoa(i)].([]byte)
		if !ok {
			break
		}
		parts = append(parts, part...)
	}
	if len(parts) == 0 {
		return e, nil
	}
	rows, err := unpack(parts)
	if err != nil {
		return e, fmt.Errorf("%s: %w", where, err)
	}
	for _, r := range rows {
		e.add(r.Key, r.Counts)
	}
	return e, nil
}

const maxUnpacked = 256 << 20

func unpack(data []byte) (rows []Row, err error) {
	gz, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	err = json.NewDecoder(io.LimitReader(gz, maxUnpacked)).Decode(&rows)
	return rows, err
}

// sorted returns the rows sorted by tokens, most tokens first.
func sorted(sums map[Key]Counts) []Row {
	rows := (&entity{rows: maps.Clone(sums)}).list()
	slices.SortStableFunc(rows, func(a, b Row) int { return int(min(max(b.Total-a.Total, -1), 1)) })
	return rows
}
