// Package loganalytics is a stand-in for the Logs Ingestion API on this machine:
//
//	POST https://{sink}/dataCollectionRules/{rule}/streams/{stream}?api-version=2023-01-01
//
// Calls have a bearer token for https://monitor.azure.com and a body that is a JSON array
// of rows, which may be compressed with gzip. The stand-in refuses what the service refuses
// (401, 403, 404, 413, 429). Where the service silently damages a row, the stand-in records
// a violation, which tests and people can read. That happens for a column that the stream
// does not declare, for a value of the wrong type and for a value of more than 64 KB.
//
// The control endpoint uses plain http:
//
//	GET    /control/rows         NDJSON, as stored
//	GET    /control/violations   JSON array of strings
//	GET    /control/counts       {"calls", "rows", "violations", "refused"}
//	DELETE /control/rows         forgets rows, violations and counts
//	POST   /control/faults       {"do": …, "times", "probability", "status", "retryAfter", "millis"}
//	GET, DELETE /control/faults  the faults in force; none
package loganalytics

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"aoaigateway/handler/devstack/devcert"
)

// Options of Start. Columns is required.
type Options struct {
	Rule    string            // immutable id of the rule; default dcr-local
	Stream  string            // default Custom-GatewayLogs_CL
	Columns map[string]string // by name: string, int, long, real, boolean, dynamic or datetime
	Token   func(token string) error
	File    string // rows are also appended to this file as NDJSON; empty = they are in memory only
}

// Sink is a running stand-in for Log Analytics. Safe for concurrent use.
type Sink struct {
	URL     string // https URL, without a trailing slash
	Control string // http URL, ending in /control
	Rule    string
	CA      []byte // the certificate that clients must trust, in PEM

	options Options
	servers []*http.Server
	file    *os.File

	mu         sync.Mutex
	rows       []json.RawMessage
	violations []string
	counts     Counts
	faults     []*Fault
}

// Counts are the numbers of what a sink has received.
type Counts struct {
	Calls      int `json:"calls"`
	Rows       int `json:"rows"`
	Violations int `json:"violations"`
	Refused    int `json:"refused"`
}

// Start listens on 127.0.0.1 until Close.
func Start(o Options) (*Sink, error) {
	if o.Rule == "" {
		o.Rule = "dcr-local"
	}
	if o.Stream == "" {
		o.Stream = "Custom-GatewayLogs_CL"
	}
	cert, ca, err := devcert.New("local Log Analytics")
	if err != nil {
		return nil, err
	}
	s := &Sink{Rule: o.Rule, CA: ca, options: o}
	if o.File != "" {
		if s.file, err = os.OpenFile(o.File, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
			return nil, err
		}
	}
	data, err := s.listen(http.HandlerFunc(s.ingest), &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
	if err != nil {
		s.Close()
		return nil, err
	}
	control, err := s.listen(s.control(), nil)
	if err != nil {
		s.Close()
		return nil, err
	}
	s.URL, s.Control = "https://"+data, "http://"+control+"/control"
	return s, nil
}

func (s *Sink) listen(h http.Handler, conf *tls.Config) (addr string, err error) {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	addr = l.Addr().String()
	if conf != nil {
		l = tls.NewListener(l, conf)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	s.servers = append(s.servers, server)
	go func() { _ = server.Serve(l) }()
	return addr, nil
}

// Close stops listening and closes all connections.
func (s *Sink) Close() {
	for _, server := range s.servers {
		_ = server.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != nil {
		_ = s.file.Close()
		s.file = nil
	}
}

// Rows returns the rows stored so far, in order. A row that was sent twice is in it twice.
func (s *Sink) Rows() []json.RawMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]json.RawMessage(nil), s.rows...)
}

// Violations returns the damage that the service would have done, one line each.
func (s *Sink) Violations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.violations...)
}

// Counts returns the counts since the start or the last Reset.
func (s *Sink) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// Reset removes all rows and violations and sets the counts to zero.
func (s *Sink) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows, s.violations, s.counts = nil, nil, Counts{}
}

// store keeps the rows of an accepted call.
func (s *Sink) store(rows []json.RawMessage, violations []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows = append(s.rows, rows...)
	s.violations = append(s.violations, violations...)
	s.counts.Rows += len(rows)
	s.counts.Violations += len(violations)
	if s.file == nil {
		return nil
	}
	for _, row := range rows {
		var line bytes.Buffer
		if err := json.Compact(&line, row); err != nil {
			return err
		}
		line.WriteByte('\n')
		if _, err := s.file.Write(line.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sink) control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /control/rows", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-ndjson")
		for _, row := range s.Rows() {
			_, _ = fmt.Fprintf(w, "%s\n", row)
		}
	})
	mux.HandleFunc("DELETE /control/rows", func(w http.ResponseWriter, _ *http.Request) {
		s.Reset()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /control/violations", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, append([]string{}, s.Violations()...))
	})
	mux.HandleFunc("GET /control/counts", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, s.Counts()) })
	mux.HandleFunc("GET /control/faults", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, s.inForce()) })
	mux.HandleFunc("POST /control/faults", s.postFault)
	mux.HandleFunc("DELETE /control/faults", func(w http.ResponseWriter, _ *http.Request) {
		s.ClearFaults()
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}

func (s *Sink) postFault(w http.ResponseWriter, r *http.Request) {
	var f Fault
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(&f)
	if err == nil {
		err = f.check()
	}
	if err != nil {
		reply(w, http.StatusBadRequest, failure("BadFault", err.Error()))
		return
	}
	s.Fault(f)
	reply(w, http.StatusCreated, f)
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// failure returns an error body in the form of the service.
func failure(code, message string) any {
	return map[string]any{"error": map[string]string{"code": code, "message": message}}
}

var errNoFault = errors.New("do: must be status, close, lost or hang")
