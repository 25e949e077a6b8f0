package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"aoaigateway/handler/app"
	"aoaigateway/handler/app/settings"
	"aoaigateway/handler/cli"
)

// version is the version of the program; the build sets it.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // after this, a second signal ends the process at once
	code := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the whole program. It serves requests if it has no arguments and the Functions
// host has set a port; otherwise it runs a command. Serving never ends with exit code 0,
// because the host restarts its handler only after another exit code.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	if len(args) > 0 {
		return cli.Command{Out: stdout, Err: stderr, Environ: environ, Version: version}.Run(ctx, args)
	}
	s, pol, err := settings.Configure(environ)
	if s.Port == "" {
		return cli.Command{Out: stdout, Err: stderr, Environ: environ, Version: version}.Run(ctx, []string{"--help"})
	}
	if err != nil {
		return report(stderr, err)
	}
	if err := app.Serve(ctx, s, pol, version, app.NewLogger(s, stdout, stderr)); err != nil {
		return report(stderr, err)
	}
	return app.ExitInterrupted
}

// report prints each mistake in err on a line of its own.
func report(w io.Writer, err error) int {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		_, _ = fmt.Fprintln(w, "gateway:", line)
	}
	return 1
}
