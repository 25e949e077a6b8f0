//go:build pprof

package main

import (
	"log/slog"
	"net/http"
	_ "net/http/pprof" //nolint:gosec // built only with the tag, and served on loopback
	"time"
)

// Development builds serve profiles; deployed ones are built without the tag.
func init() {
	go func() {
		server := &http.Server{Addr: "127.0.0.1:6060", ReadHeaderTimeout: time.Second}
		slog.Warn("profiles are not served", "error", server.ListenAndServe()) //nolint:sloglint // there is no logger yet
	}()
}
