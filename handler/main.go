package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"aoaigateway/handler/admin"
	"aoaigateway/handler/journal"
	"aoaigateway/handler/policy"
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
	serves := len(args) == 0 && environHas(environ, portVariable)
	if !serves {
		c := admin.Command{Out: stdout, Err: stderr, Version: version, Check: checkPolicy, Local: func(ctx context.Context) (admin.Verbs, error) {
			return localVerbs(ctx, environ)
		}, Verify: func(ctx context.Context, from, to time.Time) (journal.Report, error) {
			return verifyJournal(ctx, environ, from, to)
		}}
		if len(args) == 0 {
			args = []string{"--help"}
		}
		return c.Run(ctx, args)
	}
	s, pol, err := configure(environ)
	if err != nil {
		return report(stderr, err)
	}
	logger := slog.New(slog.NewJSONHandler(stdout, nil))
	if err := serve(ctx, s, pol, logger); err != nil {
		return report(stderr, err)
	}
	return stopped
}

// configure reads settings and policy and reports the mistakes of both together.
func configure(environ []string) (settings, *policy.Policy, error) {
	s, err := loadSettings(environ)
	pol, perr := loadPolicy(s)
	return s, pol, errors.Join(err, perr)
}

// stopped is the exit code after a signal, which only people send: the host kills.
const stopped = 130

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

func loadPolicy(s settings) (*policy.Policy, error) {
	data, err := os.ReadFile(s.PolicyFile)
	if err != nil {
		return nil, fmt.Errorf("GATEWAY_POLICY: %w", err)
	}
	pol, err := policy.Parse(s.PolicyFile, data)
	if err != nil {
		return nil, err
	}
	mistakes := []error{s.entraProductIn(pol)}
	for _, p := range pol.Products() {
		if p.HardTokens() {
			mistakes = append(mistakes, incomplete(pol, p, s, "has a hard token limit", "contextWindow", func(m policy.Model) bool { return m.ContextWindow > 0 })...)
		}
		if p.LimitsCost() {
			mistakes = append(mistakes, incomplete(pol, p, s, "limits cost", "price", func(m policy.Model) bool { return m.Priced })...)
		}
	}
	return pol, errors.Join(mistakes...)
}

// incomplete names the models that a region serves and a product allows, and of which
// the policy does not say what the product's limits need: a hard token limit holds the
// model's context window for requests that do not bound themselves.
func incomplete(pol *policy.Policy, p policy.Product, s settings, limit, need string, known func(policy.Model) bool) (mistakes []error) {
	seen := map[string]bool{}
	for _, r := range s.Backends {
		for model := range r.Models {
			m, _ := pol.Model(model)
			if p.Allows(model) && !known(m) && !seen[model] {
				seen[model] = true
				mistakes = append(mistakes, fmt.Errorf("%s: product %s %s and allows the model %s, whose %s is not in models; add it, or leave the model out of the product", s.PolicyFile, p.Name, limit, model, need))
			}
		}
	}
	return mistakes
}

func checkPolicy(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	_, err = policy.Parse(file, data)
	return err
}

// newServer has no write time-out: a stream may last an hour.
func newServer(handler http.Handler, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       5 * time.Minute, // longer than the host keeps its own end idle
		MaxHeaderBytes:    8 << 20,         // what is over front's own bound is refused there, with a record
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
}

// serve runs the gateway until ctx ends or the listener fails.
func serve(ctx context.Context, s settings, pol *policy.Policy, logger *slog.Logger) error {
	e, err := connect(s, logger)
	if err != nil {
		return err
	}
	p := build(s, pol, e, logger)
	var listen net.ListenConfig
	l, err := listen.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", s.Port))
	if err != nil {
		return fmt.Errorf("%s: %w", portVariable, err)
	}
	server := newServer(p.handler, logger)
	p.start()
	logger.Info("serving", "address", l.Addr().String(), "version", version, "regions", len(s.Backends))
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	_ = server.Shutdown(grace) // streams longer than that are cut, as the host would
	p.close(grace)
	return nil
}
