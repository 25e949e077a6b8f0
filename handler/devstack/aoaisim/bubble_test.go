package aoaisim_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/devstack/aoaisim/wire"
)

// pipes is a listener of connections in memory.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	dials int
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	p.dials++
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// client is a client of one region in virtual time.
type client struct {
	t      *testing.T
	region *aoaisim.Region
	http   *http.Client
	pipes  *pipes
	scheme string
}

// outcome is what a client saw of one answer.
type outcome struct {
	status  int
	header  http.Header
	body    string
	err     error         // while the answer was read
	headers time.Duration // until the headers
	whole   time.Duration // until the end
	gaps    []time.Duration
}

var testDeployments = map[string]aoaisim.Deployment{
	"chat": {Model: "gpt-4o"}, "mini": {Model: "gpt-4o-mini"}, "embed": {Model: "text-embedding-3-small"}, "think": {Model: "o4-mini"},
	"pro": {Model: "gpt-5-pro"}, "instruct": {Model: "gpt-35-turbo-instruct"}, "deepseek": {Model: "DeepSeek-V4"},
	"tight": {Model: "gpt-4o", TokensPerMinute: 6000, RequestsPerMinute: 60},
}

// inBubble runs a test in virtual time with a region that the options describe.
func inBubble(t *testing.T, o aoaisim.Options, test func(c *client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o.Key, o.Token, o.Deployments = key, "entra-token", testDeployments
		c := newClient(t, o)
		test(c)
	})
}

func newClient(t *testing.T, o aoaisim.Options) *client {
	t.Helper()
	c := &client{t: t, region: aoaisim.New(o), pipes: &pipes{conns: make(chan net.Conn), done: make(chan struct{})}}
	end := c.region.Serve(c.pipes)
	transport := &http.Transport{
		DialContext: c.pipes.dial, TLSClientConfig: &tls.Config{RootCAs: wire.Roots(), MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true, DisableCompression: true,
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
	}
	c.http, c.scheme = &http.Client{Transport: transport}, "https"
	if o.Wire.Plain {
		c.scheme = "http"
	}
	t.Cleanup(func() {
		c.region.ClearFaults()
		transport.CloseIdleConnections()
		end()
	})
	return c
}

// send sends a request. Headers are written name=value.
func (c *client) send(method, path, body string, headers ...string) outcome {
	return c.sendWithin(context.WithoutCancel(c.t.Context()), method, path, body, headers...)
}

func (c *client) sendWithin(ctx context.Context, method, path, body string, headers ...string) outcome {
	c.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, c.scheme+"://localhost"+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Api-Key", key)
	for _, kv := range headers {
		name, value, _ := strings.Cut(kv, "=")
		req.Header.Set(name, value)
		if value == "" {
			req.Header.Del(name)
		}
	}
	began := time.Now()
	resp, err := c.http.Do(req)
	if err != nil {
		return outcome{err: err, whole: time.Since(began)}
	}
	defer func() { _ = resp.Body.Close() }()
	o := outcome{status: resp.StatusCode, header: resp.Header, headers: time.Since(began)}
	var all bytes.Buffer
	buf := make([]byte, 64<<10)
	for last := time.Now(); ; {
		n, err := resp.Body.Read(buf)
		all.Write(buf[:n])
		if gap := time.Since(last); gap > 0 {
			o.gaps = append(o.gaps, gap)
		}
		last = time.Now()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				o.err = err
			}
			break
		}
	}
	o.body, o.whole = all.String(), time.Since(began)
	return o
}

// play sends a request while a scenario is in force.
func (c *client) play(scenario, path, body string) outcome {
	c.t.Helper()
	f := c.region.Fault(aoaisim.Fault{Do: aoaisim.DoScenario, Scenario: scenario, Times: 1})
	_ = f
	return c.send(http.MethodPost, path, body)
}

// want checks a status, and texts of which those with ! in front must not be there.
func (c *client) want(o outcome, status int, texts ...string) {
	c.t.Helper()
	if o.status != status {
		c.t.Errorf("%d, want %d: %v %.600s", o.status, status, o.err, o.body)
	}
	for _, text := range texts {
		if not, ok := strings.CutPrefix(text, "!"); ok == strings.Contains(o.body, not) && (ok || !strings.Contains(o.body, text)) {
			c.t.Errorf("%q in %.1500s", text, o.body)
		}
	}
}
