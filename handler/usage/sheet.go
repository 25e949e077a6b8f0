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

	"aoaigateway/handler/table"
)

// sheet is one entity: the rows of a file or of an hour.
type sheet struct {
	key   table.Key
	rev   table.Rev
	state string
	upto  int64 // the last entry counted: offset and
	index int   // place in its member; -1 = none
	rows  map[Key]Counts
}

func (s *sheet) add(k Key, c Counts) {
	if s.rows == nil {
		s.rows = map[Key]Counts{}
	}
	sum := s.rows[k]
	sum.add(c)
	s.rows[k] = sum
}

func (s *sheet) merge(rows map[Key]Counts) {
	for k, c := range rows {
		s.add(k, c)
	}
}

// The counts stand in binary properties c0, c1, …: gzip of a JSON array of rows.
const (
	maxPart  = 64 << 10
	maxParts = 15 // an entity holds 1 MiB: about 50,000 rows
)

func (s *sheet) encode() (table.Entity, error) {
	props := map[string]any{"state": s.state, "upto": s.upto, "index": int64(s.index)}
	var buf bytes.Buffer
	if len(s.rows) > 0 {
		gz := gzip.NewWriter(&buf)
		if err := json.NewEncoder(gz).Encode(s.list()); err != nil {
			return table.Entity{}, err
		}
		_ = gz.Close() // writes to memory
	}
	if buf.Len() > maxPart*maxParts {
		return table.Entity{}, fmt.Errorf("usage: %d rows do not fit the entity %s of %s", len(s.rows), s.key.Row, s.key.Partition)
	}
	for i := 0; buf.Len() > 0; i++ {
		props["c"+strconv.Itoa(i)] = bytes.Clone(buf.Next(maxPart))
	}
	return table.Entity{Key: s.key, Rev: s.rev, Props: props}, nil
}

func (s *sheet) list() []Row {
	rows := make([]Row, 0, len(s.rows))
	for k, c := range s.rows {
		rows = append(rows, Row{k, c})
	}
	slices.SortFunc(rows, func(a, b Row) int { return strings.Compare(fmt.Sprint(a.Key), fmt.Sprint(b.Key)) })
	return rows
}

func decode(e table.Entity) (sheet, error) {
	s := sheet{key: e.Key, rev: e.Rev}
	var ok bool
	if s.state, ok = e.Props["state"].(string); !ok {
		return s, fmt.Errorf("usage: entity %s of %s is not one of ours", e.Row, e.Partition)
	}
	s.upto, _ = e.Props["upto"].(int64)
	index, _ := e.Props["index"].(int64)
	s.index = int(index)
	var parts []byte
	for i := 0; ; i++ {
		part, ok := e.Props["c"+strconv.Itoa(i)].([]byte)
		if !ok {
			break
		}
		parts = append(parts, part...)
	}
	if len(parts) == 0 {
		return s, nil
	}
	rows, err := unpack(parts)
	if err != nil {
		return s, fmt.Errorf("usage: entity %s of %s: %w", e.Row, e.Partition, err)
	}
	for _, r := range rows {
		s.add(r.Key, r.Counts)
	}
	return s, nil
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

// sorted returns what is summed, most tokens first.
func sorted(sums map[Key]Counts) []Row {
	rows := (&sheet{rows: maps.Clone(sums)}).list()
	slices.SortStableFunc(rows, func(a, b Row) int { return int(min(max(b.Total-a.Total, -1), 1)) })
	return rows
}
