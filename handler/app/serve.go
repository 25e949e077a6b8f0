package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"aoaigateway/handler/policy"
)

// stopped is the exit code after a signal, which only people send: the host kills.
const ExitInterrupted = 130

// configure reads settings and policy and reports the mistakes of both together.
func Configure(environ []string) (Settings, *policy.Policy, error) {
	s, err := LoadSettings(environ)
	pol, perr := LoadPolicy(s)
	return s, pol, errors.Join(err, perr)
}

func LoadPolicy(s Settings) (*policy.Policy, error) {
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
func incomplete(pol *policy.Policy, p policy.Product, s Settings, limit, need string, known func(policy.Model) bool) (mistakes []error) {
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

func CheckPolicy(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	_, err = policy.Parse(file, data)
	return err
}

// newServer has no write time-out: a stream may last an hour.
func NewServer(handler http.Handler, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       5 * time.Minute, // longer than the host keeps its own end idle
		MaxHeaderBytes:    8 << 20,         // what is over front's own bound is refused there, with a record
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
}

// serve runs the gateway until ctx ends or the listener fails.
func Serve(ctx context.Context, s Settings, pol *policy.Policy, version string, logger *slog.Logger) error {
	e, err := Connect(s, logger)
	if err != nil {
		return err
	}
	p := New(s, pol, e, logger)
	var listen net.ListenConfig
	l, err := listen.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", s.Port))
	if err != nil {
		return fmt.Errorf("%s: %w", PortVariable, err)
	}
	server := NewServer(p.Handler, logger)
	p.Start()
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
	p.Close(grace)
	return nil
}
