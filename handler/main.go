package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"aoaigateway/handler/app"
	"aoaigateway/handler/cli"
)

// version is set by the build.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the whole program. Without arguments and with the Functions host's port set it
// serves; else it is the command line. The host restarts a process that ends with
// anything but 0, so that serving never ends with 0.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	serves := len(args) == 0 && environHas(environ, app.PortVariable)
	if !serves {
		c := cli.Command{Out: stdout, Err: stderr, Environ: environ, Version: version}
		if len(args) == 0 {
			args = []string{"--help"}
		}
		return c.Run(ctx, args)
	}
	s, pol, err := app.Configure(environ)
	if err != nil {
		return report(stderr, err)
	}
	logger := slog.New(slog.NewJSONHandler(stdout, nil))
	if err := app.Serve(ctx, s, pol, version, logger); err != nil {
		return report(stderr, err)
	}
	return app.ExitInterrupted
}

func environHas(environ []string, name string) bool {
	for _, kv := range environ {
		if strings.HasPrefix(kv, name+"=") && len(kv) > len(name)+1 {
			return true
		}
	}
	return false
}

// report prints each mistake on a line of its own.
func report(w io.Writer, err error) int {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		_, _ = fmt.Fprintln(w, "gateway:", line)
	}
	return 1
}
