package logs

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
)

// maxCall bounds a call before compression; the service takes 1 MB before and after.
const maxCall = 900_000

// ShipperOptions of a Shipper; all but Stream, Transport and Logger are needed.
type ShipperOptions struct {
	Endpoint   string // of the data collection rule or of its endpoint; https
	RuleID     string // the rule's immutable id, dcr-…
	Stream     string // default: Stream
	Credential azcore.TokenCredential
	Transport  http.RoundTripper // default: the SDK's own
	Logger     *slog.Logger      // default: discards

	// Aside keeps a row that the service refuses although it takes others. The row counts
	// as done when it returns nil, so it must have been made durable.
	DeadLetter func(ctx context.Context, row Row, reason string) error

	Pause       time.Duration // before the first repetition, doubled for each after; default 500 ms
	MaxPause    time.Duration // default 30 s
	CallTimeout time.Duration // for one call; default 60 s
}

func (o ShipperOptions) withDefaults() ShipperOptions {
	o.Stream = cmp.Or(o.Stream, Stream)
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
	canary []byte // a row that was taken
}

// NewShipper does not touch the network. The SDK's own retries are off: Ship's count.
func NewShipper(o ShipperOptions) (*Shipper, error) {
	o = o.withDefaults()
	if o.DeadLetter == nil {
		return nil, errors.New("logs: a shipper needs a place for rows set aside")
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

// RefusedError says that the service refuses whatever it is sent: the identity lacks its
// role, the rule or its stream is gone. Nothing was set aside; the rows are to be shipped
// again later, together with newer ones.
type RefusedError struct {
	Status int
	Reason string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("logs: Log Analytics takes no rows: status %d: %s", e.Status, e.Reason)
}

// Ship returns nil once the service has taken every row or Aside has. Throttling, faults of
// the service and broken connections are sat out until ctx ends. A row whose answer was
// lost is sent again, as is every row after an error, so rows arrive at least once.
//
// A row is set aside only when the service refused it (400, 403, or 413 for a large one),
// took another row after that, and then refused it by itself. A refusal of all rows says
// nothing of any of them: it is returned at once as a *[RefusedError], as are 401, 404 and
// a 413 for a small call. Nothing is set aside then.
func (s *Shipper) Ship(ctx context.Context, rows []Row) error {
	t := shipment{shipper: s}
	batch, size := []encodedRow{}, 2
	for i := range rows {
		raw, err := rows[i].encode()
		if err != nil {
			return fmt.Errorf("logs: row %s: %w", rows[i].RecordID, err)
		}
		if len(batch) > 0 && size+len(raw)+1 > maxCall {
			if err := t.send(ctx, batch); err != nil {
				return err
			}
			batch, size = batch[:0], 2
		}
		batch, size = append(batch, encodedRow{&rows[i], raw}), size+len(raw)+1
	}
	if len(batch) > 0 {
		if err := t.send(ctx, batch); err != nil {
			return err
		}
	}
	return t.confirmRefused(ctx)
}

// packed is a row as it goes over the wire.
type encodedRow struct {
	row *Row // nil for the witness
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

// refusal is an answer that repetition does not change. A nil refusal is acceptance.
type refusal struct {
	status int
	reason string
}

// upload sends one call's rows, again and again while the fault is not in them.
func (s *Shipper) upload(ctx context.Context, batch []encodedRow) (*refusal, error) {
	body, err := compress(batch)
	if err != nil {
		return nil, err
	}
	retry := backoff.Backoff{First: s.options.Pause, Max: s.options.MaxPause}
	for {
		err := s.uploadOnce(ctx, body)
		if err == nil {
			return nil, nil //nolint:nilnil // no refusal, no error
		}
		wait := backoff.Jitter(retry.Next())
		if e, ok := errors.AsType[*azcore.ResponseError](err); ok {
			if permanent(e.StatusCode) {
				return &refusal{e.StatusCode, reason(e)}, nil
			}
			if e.RawResponse != nil {
				wait = max(wait, backoff.RetryAfter(e.RawResponse.Header))
			}
		}
		s.options.Logger.Warn("log analytics upload failed", "rows", len(batch), "error", firstLine(err), "wait", wait)
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

// final says whether the same call would be answered the same again.
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
		_, _ = w.Write([]byte{before}) // to memory
		_, _ = w.Write(p.raw)
		before = ','
	}
	_, _ = w.Write([]byte{']'})
	err = w.Close() // before the bytes are looked at
	return buf.Bytes(), err
}

// reason is what the service said, on one line.
func reason(e *azcore.ResponseError) string {
	text := e.ErrorCode
	if e.RawResponse != nil && e.RawResponse.Body != nil {
		body, _ := io.ReadAll(io.LimitReader(e.RawResponse.Body, 2048))
		text += " " + string(body)
	}
	return short(strings.Join(strings.Fields(text), " "), 1024)
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return short(line, 256)
}
