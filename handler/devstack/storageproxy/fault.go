package storageproxy

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Do is what a fault does to an operation.
type Do string

// The values of Do.
const (
	DoBusy    Do = "busy"    // answer 503 ServerBusy; the operation is not applied
	DoTimeout Do = "timeout" // apply the operation, then answer 500 OperationTimedOut
	DoLate    Do = "late"    // answer 500 OperationTimedOut, and apply the operation after Delay
	DoReset   Do = "reset"   // reset the connection; the operation is not applied
	DoLost    Do = "lost"    // apply the operation, then reset the connection
	DoSilent  Do = "silent"  // never answer; the operation is not applied
	DoSlow    Do = "slow"    // apply the operation and answer after Delay
	DoReading Do = "reading" // answer 409 BlobModifiedWhileReading; the operation is not applied
)

// Fault makes the proxy fail in one way.
type Fault struct {
	Do          Do
	Match       string        // applies only to operations whose decoded path and query contain this text
	Writes      bool          // applies only to operations that write
	Probability float64       // of applying to an operation; 0 = always
	Delay       time.Duration // for DoLate and DoSlow
}

// Fault activates f.
func (p *Proxy) Fault(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, &f)
}

// ClearFaults removes all faults.
func (p *Proxy) ClearFaults() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = nil
}

// Struck returns how often each kind of fault has happened.
func (p *Proxy) Struck() map[Do]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.struck)
}

// strike returns the first fault that applies to the operation, or nil.
func (p *Proxy) strike(r *http.Request) *Fault {
	text := r.URL.Path + "?" + r.URL.RawQuery
	if plain, err := url.QueryUnescape(text); err == nil {
		text = plain
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.faults {
		if f.Writes && slices.Contains([]string{http.MethodGet, http.MethodHead}, r.Method) || !strings.Contains(text, f.Match) {
			continue
		}
		if f.Probability == 0 || rand.Float64() < f.Probability {
			p.struck[f.Do]++
			return f
		}
	}
	return nil
}

// happen serves an operation that the fault applies to.
func (f *Fault) happen(p *Proxy, w http.ResponseWriter, k kind, op operation) {
	switch f.Do {
	case DoBusy:
		refuse(w, k, http.StatusServiceUnavailable, "ServerBusy", "The server is busy.")
	case DoTimeout:
		p.applyLate(op, 0)
		refuse(w, k, http.StatusInternalServerError, "OperationTimedOut", "The operation could not be completed within the permitted time.")
	case DoLate:
		p.late.Go(func() { p.applyLate(op, f.Delay) })
		refuse(w, k, http.StatusInternalServerError, "OperationTimedOut", "The operation could not be completed within the permitted time.")
	case DoLost:
		p.applyLate(op, 0)
		reset(w)
	case DoReading:
		refuse(w, k, http.StatusConflict, "BlobModifiedWhileReading", "The blob has been modified while being read.")
	case DoReset, DoSilent, DoSlow: // silent and slow operations have ended before
		reset(w)
	}
}

// applyLate applies the operation whether or not its client is still there.
func (p *Proxy) applyLate(op operation, delay time.Duration) {
	time.Sleep(delay)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if resp, err := op.apply(ctx, p.client); err == nil {
		_ = resp.Body.Close()
	}
}

// refuse answers with an error in the form of the service.
func refuse(w http.ResponseWriter, k kind, status int, code, message string) {
	if k == tables {
		w.Header().Set("Content-Type", "application/json;odata=minimalmetadata")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"odata.error":{"code":%q,"message":{"lang":"en-US","value":%q}}}`, code, message)
		return
	}
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("X-Ms-Error-Code", code)
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `<?xml version="1.0" encoding="utf-8"?><Error><Code>%s</Code><Message>%s</Message></Error>`, code, message)
}

// reset closes the connection with a TCP reset.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	if inner, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS
		if tcp, ok := inner.NetConn().(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
			_ = tcp.Close()
		}
	}
	_ = conn.Close()
}

func splitURL(text string) (host, path string, err error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return "", "", errURL
	}
	return u.Host, u.Path, nil
}
