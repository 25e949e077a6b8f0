package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// LineType says what a line of the journal records.
type LineType string

// The types of lines.
const (
	Begin LineType = "begin" // a request was let in
	End   LineType = "end"   // it ended; of two ends with one id the later counts
	Amend LineType = "amend" // corrects the outcome of the end before it with the same id

	Incomplete LineType = "incomplete" // the request's process died before its end
)

// LineVersion is the format version of the lines that this program writes, and the newest that it reads.
const lineVersion = 1

// Line is one record of the journal.
type Line struct {
	Type    LineType `json:"type"`
	Version int      `json:"version"`
	Relaxed bool     `json:"relaxed,omitempty"` // written by a gateway that releases answers before their records are durable
	Record
}

// Entry is a line of the journal and its place. It is complete in itself: an end has its request's content from the
// begin, and an amend is the whole end with the new outcome.
type Entry struct {
	Line

	File   string // name of the journal file
	Offset int64  // of the line's batch in the file
	Index  int    // of the line in its batch; with Offset it orders a file's entries
	Chain  string // SHA-256 of the batch, hex
}

// VersionError says that something stored has a newer format than this program reads.
type VersionError struct {
	What         string // such as "record"
	Found, Known int
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("%s has format version %d, but this program reads versions up to %d: use a newer program", e.What, e.Found, e.Known)
}

// CheckVersion returns a *VersionError if found is newer than known.
func CheckVersion(what string, found, known int) error {
	if found > known {
		return &VersionError{What: what, Found: found, Known: known}
	}
	return nil
}

// ParseLine reads a line back.
func ParseLine(line []byte) (Line, error) {
	var l Line
	if err := json.Unmarshal(line, &l); err != nil {
		return l, err
	}
	return l, CheckVersion("record", l.Version, lineVersion)
}

// Encode renders the line in the current version. The content of the request's body is left out unless
// requestContent is set.
func (l Line) Encode(requestContent bool) ([]byte, error) {
	l.Version = lineVersion
	request, response := l.Request, l.Response
	l.Request, l.Response = nil, nil
	buf := bytes.NewBuffer(make([]byte, 0, 1024+request.encodedSize(requestContent)+response.encodedSize(true)))
	e := json.NewEncoder(buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(l); err != nil {
		return nil, err
	}
	line := bytes.TrimSuffix(buf.Bytes(), []byte("}\n"))
	line = request.appendTo(line, "request", requestContent)
	line = response.appendTo(line, "response", true)
	return append(line, '}'), nil
}

// amendment is all that an amend line has.
type amendment struct {
	Type    LineType  `json:"type"`
	Version int       `json:"version"`
	ID      string    `json:"id"`
	Time    time.Time `json:"time"`
	Outcome Outcome   `json:"outcome"`
}

// EncodeAmend renders the line that corrects the outcome of rec's end to rec's present one.
func EncodeAmend(rec *Record) []byte {
	line, _ := json.Marshal(amendment{Amend, lineVersion, rec.ID, rec.Time, rec.Outcome}) // strings and a time: cannot fail
	return line
}
