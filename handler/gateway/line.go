package gateway

import "encoding/json"

// LineType says what a line of the journal records.
type LineType string

// The types of lines.
const (
	Begin LineType = "begin" // a request was let in
	End   LineType = "end"   // it ended; of two ends with one id the later counts
	Amend LineType = "amend" // the outcome of the end before it with this id is another

	Incomplete LineType = "incomplete" // its process died before its end
)

// Line is one record of the journal.
type Line struct {
	Type    LineType `json:"type"`
	Relaxed bool     `json:"relaxed,omitempty"` // written by a gateway that releases answers before their records are durable
	Record
}

// ParseLine reads a line back.
func ParseLine(line []byte) (Line, error) {
	var l Line
	err := json.Unmarshal(line, &l)
	return l, err
}
