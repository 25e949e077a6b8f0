package app

import (
	"context"
	"io"
	"log/slog"

	"aoaigateway/handler/app/settings"
)

// NewLogger returns a logger of JSON lines. It writes warnings and errors to errs and other
// lines to out, because the Functions host derives the severity of a line from its stream.
func NewLogger(s settings.Values, out, errs io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: s.LogLevel}
	return slog.New(byLevel{slog.NewJSONHandler(out, o), slog.NewJSONHandler(errs, o)})
}

// byLevel passes warnings and errors to high, and other lines to low.
type byLevel struct{ low, high slog.Handler }

func (h byLevel) at(level slog.Level) slog.Handler {
	if level >= slog.LevelWarn {
		return h.high
	}
	return h.low
}

// Enabled implements slog.Handler.
func (h byLevel) Enabled(ctx context.Context, level slog.Level) bool {
	return h.at(level).Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (h byLevel) Handle(ctx context.Context, r slog.Record) error {
	return h.at(r.Level).Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h byLevel) WithAttrs(attrs []slog.Attr) slog.Handler {
	return byLevel{h.low.WithAttrs(attrs), h.high.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h byLevel) WithGroup(name string) slog.Handler {
	return byLevel{h.low.WithGroup(name), h.high.WithGroup(name)}
}
