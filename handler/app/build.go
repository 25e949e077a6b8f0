package app

import (
	"context"
	"log/slog"
	"net/http"
	"slices"

	"aoaigateway/handler/admin"
	"aoaigateway/handler/affinity"
	"aoaigateway/handler/app/settings"
	"aoaigateway/handler/audit"
	"aoaigateway/handler/auth"
	"aoaigateway/handler/backend"
	"aoaigateway/handler/body"
	"aoaigateway/handler/derive"
	"aoaigateway/handler/front"
	"aoaigateway/handler/journal"
	"aoaigateway/handler/journal/manifest"
	"aoaigateway/handler/policy"
	"aoaigateway/handler/proxy"
	"aoaigateway/handler/quota"
	"aoaigateway/handler/usage"
)

// Program is the gateway with all its parts. New does not use the network, so that the
// program starts while storage cannot be reached.
type Program struct {
	Handler http.Handler
	Journal *journal.Writer
	limiter *quota.Limiter
	pool    *backend.Pool
	worker  *derive.Worker
	stop    context.CancelFunc // ends the loop of the derive worker
	stopped chan struct{}
}

// New builds the gateway from its settings, its policy and the services in e.
func New(s settings.Values, pol *policy.Policy, e Services, logger *slog.Logger) *Program {
	p := &Program{limiter: quota.New(quota.Options{Store: e.Quota, Policy: pol, Logger: logger})}
	manifest, counts := manifest.New(e.Journal), usage.New(e.Usage)
	p.Journal = journal.New(journal.Options{Blobs: e.Blobs, Manifest: manifest, Logger: logger, Interval: s.JournalInterval})
	p.worker = derive.New(derive.Options{
		Journal: p.Journal, Manifest: manifest, Blobs: e.Blobs, Consumers: consumers(e, counts), Logger: logger,
	})
	p.pool = backend.New(backend.Options{
		Regions: withRoutes(s.Backends, pol), Secrets: e.Secrets, Identity: e.Identity, Transport: e.Transport, Logger: logger,
		FirstByteTimeout: s.FirstByteTimeout, StreamFirstByteTimeout: s.StreamFirstByteTimeout, IdleTimeout: s.IdleTimeout,
		Shared: e.Regions,
	})
	keys, entra := auth.NewSubscriptions(e.Subscriptions), newEntra(s, e.Transport, logger)
	callers := auth.New(keys, auth.Options{Entra: entra})
	management := &admin.API{
		Manager: &admin.Manager{Subscriptions: keys, Policy: pol, Counts: counts, OnChange: callers.Forget, Logger: logger},
		Pool:    p.pool, Secrets: e.Secrets, AdminKeySecret: s.AdminKeySecret, Entra: entra,
	}
	owners := affinity.New(affinity.Options{Table: e.Affinity, WriteTimeout: s.AuditWait})
	p.Handler = front.New(front.Options{
		Auth:  callers,
		Audit: audit.New(audit.Options{Journal: p.Journal, Bodies: e.Blobs, Wait: s.AuditWait, Relaxed: s.AuditRelaxed, Logger: logger}),
		Proxy: proxy.New(proxy.Options{
			Limiter: p.limiter, Pool: p.pool, Owners: owners, Policy: pol, Logger: logger, APIVersionFloor: s.APIVersionFloor,
			Bodies: newBodies(s), Heartbeat: s.Heartbeat, StreamBeginAfter: s.StreamBeginAfter,
			AnswerTimeout: s.AnswerTimeout,
		}),
		Admin:  management.Serve,
		Timer:  []front.Step{{Name: "affinity", Run: owners.Purge}, {Name: "journal", Run: p.worker.Recover}},
		Logger: logger, Fronted: s.Fronted, InAzure: s.InAzure, ClientIdleTimeout: s.ClientIdleTimeout,
	})
	return p
}

// newBodies returns the store of request bodies.
func newBodies(s settings.Values) *body.Store {
	memory := s.BodyMemoryMB << 20
	if memory == 0 {
		memory = memoryLimit() / 4
	}
	return body.New(body.Options{MaxBody: s.MaxBodyMB << 20, Memory: memory, Disk: s.BodyDiskMB << 20})
}

// newEntra returns the check of Entra tokens; nil = tokens are not accepted.
func newEntra(s settings.Values, transport http.RoundTripper, logger *slog.Logger) *auth.Entra {
	if s.Entra.Tenant == "" {
		return nil
	}
	o := s.Entra
	o.Transport, o.Logger = transport, logger
	return auth.NewEntra(o)
}

// withRoutes returns the regions with the priorities and weights that the policy sets for
// single models.
func withRoutes(regions []backend.Region, pol *policy.Policy) []backend.Region {
	regions = slices.Clone(regions)
	for i := range regions {
		r := &regions[i]
		r.Routes = map[string]backend.Route{}
		for name := range r.Models {
			m, _ := pol.Model(name)
			if route, ok := m.Regions[r.Name]; ok {
				r.Routes[name] = backend.Route(route)
			}
		}
	}
	return regions
}

// Start starts the background work.
func (p *Program) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	p.stop, p.stopped = cancel, make(chan struct{})
	go func() {
		defer close(p.stopped)
		p.worker.Run(ctx)
	}()
}

// Close waits for unfinished work: first for settlements, whose records follow, then for the
// journal.
func (p *Program) Close(ctx context.Context) {
	p.pool.Close()
	_ = p.limiter.Close(ctx)
	_ = p.Journal.Close(ctx)
	if p.stop != nil {
		p.stop()
		<-p.stopped
		p.worker.Finish(ctx)
	}
}

// consumers returns the consumers of the journal. Each reads the journal independently, so
// that the statistics do not wait for Log Analytics.
func consumers(e Services, counts *usage.Store) []derive.Consumer {
	list := []derive.Consumer{counts}
	if e.Exporter != nil {
		list = append(list, e.Exporter)
	}
	return list
}
