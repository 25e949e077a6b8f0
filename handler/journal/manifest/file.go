package manifest

import (
	"fmt"
	"strings"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal/format"
	"aoaigateway/handler/table"
)

// State says what can still happen to a file.
type State string

// The states of a file.
const (
	Open   State = "open"   // its writer may append
	Sealed State = "sealed" // nothing is appended any more, but not everything is derived
	Done   State = "done"   // everything that can be derived from it has been
)

// File is one file of the journal as its manifest entry has it.
type File struct {
	Name    string
	Process string // of the writer; a part of the name, like Number and Hour
	Number  int
	Hour    time.Time

	State   State
	Adopted bool // a recovery found the file without an entry
	Head
	Cursor

	rev table.Rev
}

// Head is the end of a file's chain. The one in the manifest is the checkpoint.
type Head struct {
	Seq    int64 // of the last batch; -1 before the first
	Length int64 // of the file up to the end of that batch
	Hash   string
}

// Cursor says how far a file is processed, and who processes it.
type Cursor struct {
	Processed int64     // everything before this offset is derived
	Owner     string    // the writer or a recovery
	Until     time.Time // when the owner must be assumed dead
}

// keepRevision takes over what a write of the entry changed beside the caller's own fields, so that f can be written
// again although it may have changed since.
func (f *File) keepRevision(written File) {
	f.rev, f.Adopted, f.Owner, f.Until = written.rev, written.Adopted, written.Owner, written.Until
}

// newFile returns a new file without batches.
func newFile(n format.Name) File {
	return File{Name: n.String(), Process: n.Process, Number: n.Number, Hour: n.Hour, Head: Head{Seq: -1}, State: Open}
}

// ParseFile returns a new file of the given name, or false if it is not the name of a journal file.
func ParseFile(name string) (File, bool) {
	n, ok := format.ParseName(name)
	return newFile(n), ok
}

// Version is the format version of the entries that this program writes, and the newest that it reads.
const version = 1

const dayLayout = "2006-01-02"

// key has the day as its partition and hh-{process}-{n} as its row.
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

// parse reads an entry. With a *gateway.VersionError it still returns the file's name.
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
