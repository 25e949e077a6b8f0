package app

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"aoaigateway/handler/app/settings"
	"aoaigateway/handler/policy"
)

// ExitInterrupted is the exit code after a signal. Signals come from a terminal; the
// Functions host kills its handler instead.
const ExitInterrupted = 130

// NewServer returns the HTTP server. It has no write timeout, because a stream may last for
// an hour.
func NewServer(handler http.Handler, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       5 * time.Minute, // longer than the Functions host keeps an idle connection
		MaxHeaderBytes:    8 << 20,         // package front has a lower limit and records what it refuses
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
}

// Serve runs the gateway until ctx ends or the listener fails.
func Serve(ctx context.Context, s settings.Values, pol *policy.Policy, version string, logger *slog.Logger) error {
	e, err := connect(s, logger)
	if err != nil {
		return err
	}
	var listen net.ListenConfig
	l, err := listen.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", s.Port))
	if err != nil {
		return fmt.Errorf("%s: %w", settings.PortVariable, err)
	}
	warmUp(s, e.Identity)
	p := New(s, pol, e, logger) // after the port, because it starts background work
	server := NewServer(p.Handler, logger)
	p.Start()
	logger.Info("serving", "address", l.Addr().String(), "version", version, "regions", len(s.Backends))
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	limit := 10 * time.Second
	select {
	case err := <-failed:
		return err
	case <-orphaned(ctx, s.Hosted):
		logger.Error("the Functions host has ended, so the gateway ends too")
		limit = orphanGrace
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	_ = server.Shutdown(grace) // cuts streams that have not ended by then, as the host would
	p.Close(grace)
	return nil
}
