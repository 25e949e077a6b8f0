package backend

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"time"
)

// NewTransport returns the transport for requests to regions. It reuses connections and
// never decompresses. It gives up after 5 s if it cannot connect, and after 25 s if an
// HTTP/2 connection is silent. roots are certificates to trust, for stand-ins; nil = the
// system's.
func NewTransport(roots *x509.CertPool) *http.Transport {
	dial := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dial.DialContext,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    5 * time.Second,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    512,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
		MaxResponseHeaderBytes: 256 << 10, // so that a region's headers cannot fill the memory
		IdleConnTimeout:        90 * time.Second,
		ExpectContinueTimeout:  time.Second,
		DisableCompression:     true,
		ReadBufferSize:         8 << 10, // small, because idle streams keep this buffer; larger reads bypass it
	}
}
