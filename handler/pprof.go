//go:build pprof

package main

import (
	"log/slog"
	"net/http"
	_ "net/http/pprof" //nolint:gosec // only in builds with the tag pprof, and only on the loopback address
	"time"
)

// Builds with the tag pprof serve profiles. Deployed builds do not have the tag.
func init() {
	go func() {
		server := &http.Server{Addr: "127.0.0.1:6060", ReadHeaderTimeout: time.Second}
		slog.Warn("the server of profiles has ended", "error", server.ListenAndServe()) //nolint:sloglint // there is no logger yet
	}()
}
