package aoaisim

import (
	"compress/gzip"
	"net/http"
	"strings"
)

// gzipped compresses an answer, since the service does so for clients that ask for it, also
// for streams.
type gzipped struct {
	http.ResponseWriter

	zip    *gzip.Writer // nil until the first byte
	headed bool
}

// compressing returns a writer for the answer to a request, and what ends the answer.
func compressing(w http.ResponseWriter, r *http.Request) (answer http.ResponseWriter, end func()) {
	if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		return w, func() {}
	}
	g := &gzipped{ResponseWriter: w}
	return g, func() {
		if g.zip != nil {
			_ = g.zip.Close()
		}
	}
}

// WriteHeader implements http.ResponseWriter.
func (g *gzipped) WriteHeader(status int) {
	if !g.headed {
		g.headed = true
		g.Header().Del("Content-Length")
		g.Header().Set("Content-Encoding", "gzip")
	}
	g.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (g *gzipped) Write(p []byte) (int, error) {
	if !g.headed {
		g.WriteHeader(http.StatusOK)
	}
	if g.zip == nil {
		g.zip = gzip.NewWriter(g.ResponseWriter)
	}
	return g.zip.Write(p)
}

// FlushError is for http.ResponseController.
func (g *gzipped) FlushError() error {
	if g.zip != nil {
		if err := g.zip.Flush(); err != nil {
			return err
		}
	}
	return http.NewResponseController(g.ResponseWriter).Flush()
}

// Unwrap is for http.ResponseController, which takes connections over.
func (g *gzipped) Unwrap() http.ResponseWriter { return g.ResponseWriter }
