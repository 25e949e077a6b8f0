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
	Begin LineType = "begin" // a request was accepted
	End   LineType = "end"   // a request ended; if two lines have the same id, the later one counts
	Amend LineType = "amend" // corrects the outcome in the end line with the same id

	Incomplete LineType = "incomplete" // the process died before the request ended
)

// lineVersion is the format version of the lines that this program writes, and the newest
// version that it can read.
const lineVersion = 1

// Line is one record of the journal.
type Line struct {
	Type    LineType `json:"type"`
	Version int      `json:"version"`
	Relaxed bool     `json:"relaxed,omitempty"` // written in relaxed mode, in which answers are sent even if their records are not durable
	Record
}

// Entry is a line of the journal with its place. It is complete: an end has the content of
// the request from the begin line, and an amend has all fields of the end line and the new
// outcome.
type Entry struct {
	Line

	File   string // name of the journal file
	Offset int64  // where the line's batch begins in the file
	Index  int    // number of the line in its batch; Offset and Index order the entries of a file
	Chain  string // SHA-256 of the batch in hex
}

// VersionError says that stored data has a newer format than this program can read.
type VersionError struct {
	What         string // what the data is, such as "record"
	Found, Known int
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("%s has format version %d, but this program reads versions up to %d: use a newer program", e.What, e.Found, e.Known)
}

// CheckVersion returns a *VersionError if the version found is newer than known.
func CheckVersion(what string, found, known int) error {
	if found > known {
		return &VersionError{What: what, Found: found, Known: known}
	}
	return nil
}

// ParseLine parses a line of the journal. It returns a *VersionError for a newer format.
func ParseLine(line []byte) (Line, error) {
	var l Line
	if err := json.Unmarshal(line, &l); err != nil {
		return l, err
	}
	return l, CheckVersion("record", l.Version, lineVersion)
}

// Encode returns l as a line in the current format. The content of the request's body is
// left out unless requestContent is true.
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

// amendment has the members of an amend line.
type amendment struct {
	Type    LineType  `json:"type"`
	Version int       `json:"version"`
	ID      string    `json:"id"`
	Time    time.Time `json:"time"`
	Outcome Outcome   `json:"outcome"`
}

// EncodeAmend returns an amend line, which replaces the outcome in rec's end line by
// rec.Outcome.
func EncodeAmend(rec *Record) []byte {
	line, _ := json.Marshal(amendment{Amend, lineVersion, rec.ID, rec.Time, rec.Outcome}) // cannot fail: only strings and a time
	return line
}
