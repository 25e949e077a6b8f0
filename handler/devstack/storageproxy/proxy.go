// Package storageproxy makes a storage emulator behave as Azure Storage does in a region: it
// is a proxy that speaks TLS, delays each operation, and fails in the ways of the real
// service. It must stand in front of Azurite.
package storageproxy

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"aoaigateway/handler/devstack/devcert"
)

// The delays of operations follow a log-normal distribution with these defaults.
const (
	defaultMedian = 8 * time.Millisecond
	defaultP99    = 60 * time.Millisecond
)

// Options of Start. Blob and Table are the emulator's URLs and are required.
type Options struct {
	Blob, Table string
	Median, P99 time.Duration // of the delay of an operation; 0 = 8 ms and 60 ms
}

// Proxy is a running proxy. Safe for concurrent use.
type Proxy struct {
	Blob, Table string // https URLs, in the form of the emulator's
	CA          []byte // the certificate that clients must trust, in PEM

	options Options
	client  *http.Client
	servers []*http.Server
	dials   atomic.Int64
	late    sync.WaitGroup // operations that are applied after their answer

	mu     sync.Mutex
	faults []*Fault
	struck map[Do]int
}

// Start listens on 127.0.0.1 until Close.
func Start(o Options) (*Proxy, error) {
	o.Median, o.P99 = cmp.Or(o.Median, defaultMedian), cmp.Or(o.P99, defaultP99)
	cert, ca, err := devcert.New("local storage")
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		CA: ca, options: o, struck: map[Do]int{},
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}},
	}
	for _, service := range []struct {
		kind   kind
		target string
		url    *string
	}{{blobs, o.Blob, &p.Blob}, {tables, o.Table, &p.Table}} {
		if *service.url, err = p.serve(service.kind, service.target, cert); err != nil {
			p.Close()
			return nil, err
		}
	}
	return p, nil
}

// kind is a service of a storage account.
type kind int

const (
	blobs kind = iota
	tables
)

func (p *Proxy) serve(k kind, target string, cert tls.Certificate) (url string, err error) {
	host, path, err := splitURL(target)
	if err != nil {
		return "", err
	}
	var listen net.ListenConfig
	l, err := listen.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.answer(w, r, k, host) }),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}},
		ErrorLog:          log.New(io.Discard, "", 0), // clients that leave are ordinary
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateNew {
				p.dials.Add(1)
			}
		},
	}
	p.servers = append(p.servers, server)
	go func() { _ = server.ServeTLS(l, "", "") }()
	return "https://" + l.Addr().String() + path, nil
}

// Dials returns the number of connections that clients have opened so far.
func (p *Proxy) Dials() int64 { return p.dials.Load() }

// Close ends the proxy. It waits for operations that are applied after their answer.
func (p *Proxy) Close() {
	p.ClearFaults()
	for _, s := range p.servers {
		_ = s.Close()
	}
	p.late.Wait()
	p.client.CloseIdleConnections()
}

// answer serves one operation. The body is read whole first, because an operation may be
// applied after its client has gone.
func (p *Proxy) answer(w http.ResponseWriter, r *http.Request, k kind, host string) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	op := operation{method: r.Method, url: "http://" + host + r.URL.RequestURI(), header: r.Header.Clone(), body: body}
	fault := p.strike(r)
	if fault != nil && fault.Do == DoSilent {
		<-r.Context().Done() // ClearFaults closes no connection; clients give up
		return
	}
	sleep(r.Context(), p.delay())
	if fault != nil && fault.Do == DoSlow {
		sleep(r.Context(), fault.Delay)
		fault = nil
	}
	if fault == nil {
		p.forward(w, r, op)
		return
	}
	fault.happen(p, w, k, op)
}

func (p *Proxy) forward(w http.ResponseWriter, r *http.Request, op operation) {
	resp, err := op.apply(r.Context(), p.client)
	if err != nil {
		reset(w)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body)
}

// delay returns a random delay with the median and the p99 of the options.
func (p *Proxy) delay() time.Duration {
	const z99 = 2.326 // the 99th percentile of the standard normal distribution
	sigma := math.Log(float64(p.options.P99)/float64(p.options.Median)) / z99
	return time.Duration(float64(p.options.Median) * math.Exp(sigma*rand.NormFloat64()))
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// operation is a request to the emulator. Its signature covers the path and the headers, not
// the host.
type operation struct {
	method, url string
	header      http.Header
	body        []byte
}

func (o operation) apply(ctx context.Context, client *http.Client) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, o.method, o.url, bytes.NewReader(o.body))
	if err != nil {
		return nil, err
	}
	req.Header = o.header
	return client.Do(req)
}

var errURL = errors.New("storageproxy: the emulator's URL is not http://host:port/account")
