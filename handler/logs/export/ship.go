// Package export sends rows to Log Analytics. Rows that the service refuses permanently are
// stored as dead letters.
package export

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/monitor/ingestion/azlogs"
	"github.com/klauspost/compress/gzip"

	"aoaigateway/handler/backoff"
	"aoaigateway/handler/logs"
)

// maxCall is the largest size of a call in bytes, before compression. The service accepts 1
// MB, both before and after compression.
const maxCall = 900_000

// ShipperOptions of a Shipper. All except Stream, Transport and Logger are required.
type ShipperOptions struct {
	Endpoint   string // https URL of the data collection rule or of its endpoint
	RuleID     string // immutable id of the rule (dcr-…)
	Stream     string // default: Stream
	Credential azcore.TokenCredential
	Transport  http.RoundTripper // default: the SDK's transport
	Logger     *slog.Logger      // default: nothing is logged

	// DeadLetter stores a row that the service refuses although it accepts others. The row
	// must be durable when DeadLetter returns nil, because it is not sent again.
	DeadLetter func(ctx context.Context, row logs.Row, reason string) error

	Pause       time.Duration // before the first repetition of a call; doubled for each further one; default 500 ms
	MaxPause    time.Duration // default 30 s
	CallTimeout time.Duration // time limit of one call; default 60 s
}

func (o ShipperOptions) withDefaults() ShipperOptions {
	o.Stream = cmp.Or(o.Stream, logs.Stream)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	o.Pause = cmp.Or(o.Pause, 500*time.Millisecond)
	o.MaxPause = cmp.Or(o.MaxPause, 30*time.Second)
	o.CallTimeout = cmp.Or(o.CallTimeout, time.Minute)
	return o
}

// Shipper sends rows to one stream of a data collection rule. Safe for concurrent use.
type Shipper struct {
	options ShipperOptions
	client  *azlogs.Client

	mu     sync.Mutex
	canary []byte // a row that the service has accepted before; nil = none yet
}

// NewShipper returns a Shipper. It does not use the network yet. It turns off the retries
// of the SDK, because Ship repeats calls itself.
func NewShipper(o ShipperOptions) (*Shipper, error) {
	o = o.withDefaults()
	if o.DeadLetter == nil {
		return nil, errors.New("logs: ShipperOptions.DeadLetter is missing")
	}
	client := &azlogs.ClientOptions{ClientOptions: azcore.ClientOptions{Retry: policy.RetryOptions{MaxRetries: -1}}}
	if o.Transport != nil {
		client.Transport = &http.Client{Transport: o.Transport}
	}
	c, err := azlogs.NewClient(strings.TrimSuffix(o.Endpoint, "/"), o.Credential, client)
	if err != nil {
		return nil, fmt.Errorf("logs: %w", err)
	}
	return &Shipper{options: o, client: c}, nil
}

// RefusedError says that the service refuses every row, for example because the identity
// has no role, or because the rule or its stream does not exist. No row became a dead
// letter. All rows must be sent again later.
type RefusedError struct {
	Status int
	Reason string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("logs: Log Analytics refuses all rows: status %d: %s", e.Status, e.Reason)
}

// Ship returns nil when every row was accepted by the service or stored as a dead letter.
// It repeats calls after throttling, a failure of the service or a broken connection, until
// ctx ends. A row whose answer was lost is sent again, and after an error the caller sends
// all rows again. So a row may arrive several times.
//
// A row becomes a dead letter only if the service refused it (400, 422, or 413 for a large
// call), then accepted another row, and then refused the row again when it was sent alone.
// If the service refuses all rows, or the refusal cannot be about a row (401, 403, 404, 413
// for a small call, a 400 about the stream), Ship returns a *[RefusedError] and stores no
// dead letter.
func (s *Shipper) Ship(ctx context.Context, rows []logs.Row) error {
	ship := shipment{shipper: s}
	batch, size := []encodedRow{}, 2
	for i := range rows {
		raw, err := rows[i].Encode()
		if err != nil {
			return fmt.Errorf("logs: row %s: %w", rows[i].RecordID, err)
		}
		if len(batch) > 0 && size+len(raw)+1 > maxCall {
			if err := ship.send(ctx, batch); err != nil {
				return err
			}
			batch, size = batch[:0], 2
		}
		batch, size = append(batch, encodedRow{&rows[i], raw}), size+len(raw)+1
	}
	if len(batch) > 0 {
		if err := ship.send(ctx, batch); err != nil {
			return err
		}
	}
	return ship.confirmRefused(ctx)
}

// encodedRow is a row in the form in which it is sent.
type encodedRow struct {
	row *logs.Row // nil = the canary row
	raw []byte
}

func (s *Shipper) canaryRow() (encodedRow, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return encodedRow{raw: s.canary}, s.canary != nil
}

func (s *Shipper) setCanary(p encodedRow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.canary = p.raw
}

// refusal is an answer that would be the same if the call were repeated. A nil refusal
// means that the service accepted the call.
type refusal struct {
	status int
	code   string
	reason string
}

// upload sends one call. It repeats the call until the service accepts or refuses it, or
// ctx ends.
func (s *Shipper) upload(ctx context.Context, batch []encodedRow) (*refusal, error) {
	body, err := compress(batch)
	if err != nil {
		return nil, err
	}
	pauses := backoff.Backoff{First: s.options.Pause, Max: s.options.MaxPause}
	for {
		err := s.uploadOnce(ctx, body)
		if err == nil {
			return nil, nil //nolint:nilnil // accepted: no refusal and no error
		}
		wait := backoff.Jitter(pauses.Next())
		if e, ok := errors.AsType[*azcore.ResponseError](err); ok {
			if permanent(e.StatusCode) {
				return &refusal{e.StatusCode, e.ErrorCode, reason(e)}, nil
			}
			if e.RawResponse != nil {
				stated, _ := backoff.RetryAfter(e.RawResponse.Header)
				wait = max(wait, stated)
			}
		}
		s.options.Logger.Warn("a call to Log Analytics failed and will be repeated", "rows", len(batch), "error", firstLine(err), "wait", wait)
		if !backoff.Sleep(ctx, wait) {
			return nil, fmt.Errorf("logs: upload: %w", errors.Join(ctx.Err(), err))
		}
	}
}

func (s *Shipper) uploadOnce(ctx context.Context, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, s.options.CallTimeout)
	defer cancel()
	_, err := s.client.Upload(ctx, s.options.RuleID, s.options.Stream, body, &azlogs.UploadOptions{ContentEncoding: new("gzip")})
	return err
}

// permanent reports whether a repetition of the call would get the same answer.
func permanent(status int) bool {
	return status >= 400 && status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests
}

func compress(batch []encodedRow) ([]byte, error) {
	var buf bytes.Buffer
	w, err := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	before := byte('[')
	for _, p := range batch {
		_, _ = w.Write([]byte{before}) // cannot fail: it writes to memory
		_, _ = w.Write(p.raw)
		before = ','
	}
	_, _ = w.Write([]byte{']'})
	err = w.Close() // must be closed before the bytes are read
	return buf.Bytes(), err
}

// reason returns the service's error message as one line.
func reason(e *azcore.ResponseError) string {
	text := e.ErrorCode
	if e.RawResponse != nil && e.RawResponse.Body != nil {
		body, _ := io.ReadAll(io.LimitReader(e.RawResponse.Body, 2048))
		text += " " + string(body)
	}
	text = strings.Join(strings.Fields(text), " ")
	return strings.ToValidUTF8(text[:min(len(text), 1024)], "")
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return strings.ToValidUTF8(line[:min(len(line), 256)], "")
}
