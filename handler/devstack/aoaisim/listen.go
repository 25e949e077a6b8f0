package aoaisim

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"aoaigateway/handler/devstack/aoaisim/wire"
)

// Start listens on 127.0.0.1 until Close. It returns the URLs of the data endpoint and of
// the control endpoint, without trailing slashes. The control endpoint is plain HTTP.
func (r *Region) Start() (url, control string, err error) {
	var lc net.ListenConfig
	data, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	side, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		_ = data.Close()
		return "", "", err
	}
	r.listenMu.Lock()
	defer r.listenMu.Unlock()
	r.server = wire.New(r, r.o.Wire)
	r.control = &http.Server{Handler: r.Control(), ReadHeaderTimeout: time.Minute}
	r.listener, r.addr = data, data.Addr().String()
	go r.server.Serve(data)
	go func() { _ = r.control.Serve(side) }()
	return r.server.Scheme() + "://" + r.addr, "http://" + side.Addr().String() + "/control", nil
}

// Serve accepts the connections of a listener of another kind until end is called.
func (r *Region) Serve(l net.Listener) (end func()) {
	server := wire.New(r, r.o.Wire)
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(l) }()
	return func() {
		_ = l.Close()
		server.Close()
		<-done
	}
}

// CA returns the certificate of all regions of this process, in PEM.
func CA() []byte { return wire.CA() }

// Close stops listening and closes all connections.
func (r *Region) Close() {
	r.faults.clear(0)
	r.listenMu.Lock()
	defer r.listenMu.Unlock()
	if r.server == nil {
		return
	}
	if r.listener != nil {
		_ = r.listener.Close()
	}
	r.server.Close()
	_ = r.control.Close()
	r.listener, r.server = nil, nil
}

// Fault activates a fault and returns it with its id.
func (r *Region) Fault(f Fault) Fault {
	f = r.faults.add(f)
	if f.Do == DoRefuse {
		r.refuse(f)
	}
	return f
}

// ClearFaults removes all faults and releases all requests that hang.
func (r *Region) ClearFaults() {
	r.clearFaults(0)
}

func (r *Region) clearFaults(id int) {
	r.faults.clear(id)
	if !r.faults.refusing() {
		r.accept()
	}
}

// Step lets streams that wait for a step send n more events.
func (r *Region) Step(n int) { r.faults.step(n) }

// refuse closes the listener and all idle connections. Answers in progress continue.
func (r *Region) refuse(f Fault) {
	r.listenMu.Lock()
	defer r.listenMu.Unlock()
	if r.listener == nil {
		return
	}
	r.server.Drain()
	_ = r.listener.Close()
	r.listener = nil
	if f.Millis > 0 {
		time.AfterFunc(f.wait(), func() { r.clearFaults(f.ID) })
	}
}

// accept listens on the same port again.
func (r *Region) accept() {
	r.listenMu.Lock()
	defer r.listenMu.Unlock()
	if r.listener != nil || r.server == nil {
		return
	}
	l, err := relisten(r.addr)
	if err != nil {
		return
	}
	r.listener = l
	r.server.Resume()
	go r.server.Serve(l)
}

// relisten listens on a port that was closed a moment ago. The kernel may need some time to
// free the port.
func relisten(addr string) (net.Listener, error) {
	var lc net.ListenConfig
	var errs error
	for range 50 {
		l, err := lc.Listen(context.Background(), "tcp", addr)
		if err == nil {
			return l, nil
		}
		errs = errors.Join(errs, err)
		time.Sleep(20 * time.Millisecond)
	}
	return nil, errs
}
