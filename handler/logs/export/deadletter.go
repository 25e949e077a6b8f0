package export

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strconv"

	"aoaigateway/handler/blob"
	"aoaigateway/handler/logs"
)

// deadLetter is the stored form of a row that the service refuses permanently.
type deadLetter struct {
	Reason string          `json:"reason"`
	Row    json.RawMessage `json:"row"`
}

// DeadLetterIn returns a function that stores a row as a blob with one line of JSON, named
// dead-letter/yyyy/mm/dd/{RecordId}-{RecordRevision}.jsonl. A row that is refused twice is
// stored under the same name; where blobs are immutable, the first stays.
func DeadLetterIn(put func(ctx context.Context, name string, r io.Reader) error) func(context.Context, logs.Row, string) error {
	return func(ctx context.Context, row logs.Row, reason string) error {
		raw, err := row.Encode()
		if err != nil {
			return err
		}
		var line bytes.Buffer
		e := json.NewEncoder(&line)
		e.SetEscapeHTML(false)
		if err := e.Encode(deadLetter{reason, raw}); err != nil {
			return err
		}
		name := "dead-letter/" + row.TimeGenerated.Format("2006/01/02") + "/" + row.RecordID + "-" + strconv.Itoa(row.RecordRevision) + ".jsonl"
		if err := put(ctx, name, &line); !errors.Is(err, blob.ErrExists) {
			return err
		}
		return nil
	}
}
