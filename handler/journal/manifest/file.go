package manifest

import (
	"fmt"
	"strings"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal/format"
	"aoaigateway/handler/table"
)

// State says what may still happen to a file.
type State string

// The states of a file.
const (
	Open   State = "open"   // the writer may append batches
	Sealed State = "sealed" // no more batches are appended, but consumers have not accepted all of its entries
	Done   State = "done"   // all consumers have accepted all of its entries
)

// File is a journal file as its manifest entry describes it.
type File struct {
	Name    string
	Process string // process that writes the file; part of the file's name, as are Number and Hour
	Number  int
	Hour    time.Time

	State   State
	Adopted bool // a recovery found the blob without a manifest entry and added the entry
	Head
	Cursor

	rev table.Rev
}

// Head is the end of the chain in a file. The Head in the manifest is the checkpoint.
type Head struct {
	Seq    int64 // number of the last batch; -1 = the file has none
	Length int64 // length of the file up to the end of that batch, in bytes
	Hash   string
}

// Cursor says up to where a file was processed, and who processes it.
type Cursor struct {
	Processed int64     // all consumers have accepted everything before this offset
	Owner     string    // id of the writer or of a recovery
	Until     time.Time // the owner must be assumed dead after this time
}

// keepRevision copies from written what a write of the entry has set. After that f can be
// written again, with changes that were made in the meantime.
func (f *File) keepRevision(written File) {
	f.rev, f.Adopted, f.Owner, f.Until = written.rev, written.Adopted, written.Owner, written.Until
}

// newFile returns a file without batches.
func newFile(n format.Name) File {
	return File{Name: n.String(), Process: n.Process, Number: n.Number, Hour: n.Hour, Head: Head{Seq: -1}, State: Open}
}

// ParseFile returns a file without batches, or false if name does not belong to a journal
// file.
func ParseFile(name string) (File, bool) {
	n, ok := format.ParseName(name)
	return newFile(n), ok
}

// version is the format version of the entries that this program writes, and the newest
// version that it can read.
const version = 1

const dayLayout = "2006-01-02"

// key returns the key of the file's entry: the day as partition, and hh-{process}-{n} as
// row.
func (f File) key() table.Key {
	name := format.Name{Hour: f.Hour, Process: f.Process, Number: f.Number}
	return table.Key{Partition: f.Hour.Format(dayLayout), Row: f.Hour.Format("15-") + name.Base()}
}

func (f File) entity() table.Entity {
	return table.Entity{Key: f.key(), Rev: f.rev, Props: map[string]any{
		"version": int64(version), "seq": f.Seq, "length": f.Length, "hash": f.Hash,
		"processed": f.Processed, "owner": f.Owner, "until": f.Until, "state": string(f.State), "adopted": f.Adopted,
	}}
}

// parse returns the file that an entry describes. If the error is a *gateway.VersionError,
// the file has its name.
func parse(e table.Entity) (File, error) {
	hour, base, _ := strings.Cut(e.Row, "-")
	f, ok := ParseFile(strings.ReplaceAll(e.Partition, "-", "/") + "/" + hour + "/" + base + format.Extension)
	if !ok {
		return File{}, fmt.Errorf("journal: manifest entry %q of partition %q does not name a journal file", e.Row, e.Partition)
	}
	found, _ := e.Props["version"].(int64)
	if err := gateway.CheckVersion("manifest entry of "+f.Name, int(found), version); err != nil {
		return f, err
	}
	f.Seq, _ = e.Props["seq"].(int64)
	f.Length, _ = e.Props["length"].(int64)
	f.Hash, _ = e.Props["hash"].(string)
	f.Processed, _ = e.Props["processed"].(int64)
	f.Owner, _ = e.Props["owner"].(string)
	f.Until, _ = e.Props["until"].(time.Time)
	state, _ := e.Props["state"].(string)
	f.Adopted, _ = e.Props["adopted"].(bool)
	f.State, f.rev = State(state), e.Rev
	return f, nil
}
