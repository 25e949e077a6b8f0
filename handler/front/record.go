package front

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"aoaigateway/handler/audit"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/headers"
)

func (h *Handler) newRecord(r *http.Request) *gateway.Record {
	now := time.Now()
	rec := &gateway.Record{ID: newID(now), Time: now, Method: r.Method, URL: loggedURL(r.URL), ClientAgent: r.UserAgent()}
	if r.ContentLength > 0 { // what a record of a request whose body is not read shows
		rec.Request = &gateway.Body{Size: r.ContentLength, ContentType: r.Header.Get("Content-Type")}
	}
	rec.IP = hops{h.options.Fronted, h.options.InAzure}.clientIP(r)
	return rec
}

func recordError(rec *gateway.Record, e *gateway.Error) {
	rec.Status = e.Kind.Status()
	rec.ErrorReason, rec.ErrorMessage, rec.Limit = e.Code, e.Message, e.Limit
	rec.TotalMilli = time.Since(rec.Time).Milliseconds()
	switch {
	case e.Kind == gateway.ClientGone:
		rec.Outcome = gateway.ClientLeft
	case e.Kind == gateway.Internal:
		rec.Outcome = gateway.GatewayFailed
	case len(rec.Attempts) == 0:
		rec.Outcome = gateway.Refused
	default:
		rec.Outcome = gateway.Complete
	}
}

// recordPanic is deferred by every request. If the record has no end yet, the request is
// ending in a panic, and recordPanic completes the record.
func recordPanic(ctx context.Context, rec *gateway.Record, x *audit.Exchange) {
	if !x.Ended() {
		recordError(rec, gateway.Panic.Because(nil))
		_ = x.End(ctx)
	}
}

// longestURL is the number of bytes of a URL that the record keeps.
const longestURL = 2048

// loggedURL is the URL for the record, without keys.
func loggedURL(u *url.URL) string {
	clean := url.URL{Path: u.Path, RawPath: u.RawPath, RawQuery: headers.CleanQuery(u.Query()).Encode()}
	s := clean.String()
	return strings.ToValidUTF8(s[:min(len(s), longestURL)], "")
}

var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// newID returns 26 characters that sort by time, in the layout of a ULID: 48 bits of
// milliseconds, then 80 random bits.
func newID(now time.Time) string {
	var b [18]byte
	binary.BigEndian.PutUint64(b[:8], uint64(now.UnixMilli()))
	_, _ = rand.Read(b[8:])
	return idEncoding.EncodeToString(b[2:])
}

// logRequest logs one line about a request. For a 5xx status the line has the cause of the
// error, which the client does not see.
func logRequest(ctx context.Context, logger *slog.Logger, rec *gateway.Record, cause error, aborted bool) {
	attrs := []slog.Attr{
		slog.String("record_id", rec.ID), slog.String("operation", rec.Operation), slog.Int("status", rec.Status),
		slog.String("outcome", string(rec.Outcome)), slog.String("reason", rec.ErrorReason), slog.String("subscription", rec.Subscription),
		slog.String("model", rec.Model), slog.String("region", rec.Region), slog.Int("attempts", len(rec.Attempts)),
		slog.Int64("tokens", rec.Usage.Total), slog.Int64("first_byte_ms", rec.FirstByteMilli), slog.Int64("total_ms", rec.TotalMilli),
		slog.Bool("aborted", aborted),
	}
	if cause != nil && rec.Status >= http.StatusInternalServerError {
		attrs = append(attrs, slog.String("error", cause.Error()))
	}
	logger.LogAttrs(context.WithoutCancel(ctx), slog.LevelInfo, "request", attrs...)
}
