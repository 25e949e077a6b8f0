package backend

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

const cognitiveScope = "https://cognitiveservices.azure.com/.default"

// authorize puts the region's own credential on a request. renew asks for a secret that
// is newer than the one just refused.
func (p *Pool) authorize(ctx context.Context, req *http.Request, r *Region, renew bool) error {
	if r.Credential == ManagedIdentity {
		if p.options.Identity == nil {
			return errors.New("backend: no identity to ask for a token")
		}
		token, err := p.options.Identity.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{cognitiveScope}})
		if err != nil {
			return fmt.Errorf("backend: token for %s: %w", r.Name, err)
		}
		req.Header.Set("Authorization", "Bearer "+token.Token)
		return nil
	}
	get := p.options.Secrets.Get
	if renew {
		get = p.options.Secrets.Refresh
	}
	key, err := get(ctx, r.Credential)
	if err != nil {
		return fmt.Errorf("backend: secret for %s: %w", r.Name, err)
	}
	req.Header.Set("Api-Key", key)
	return nil
}

// NewTransport is how regions are reached: connections are kept for the next request,
// nothing is decompressed behind our back, a dead region is noticed within 5 s, a dead
// connection that many requests share (HTTP/2) within 25 s, and no region's headers fill
// the memory. roots
// adds trusted certificates for local work; nil means the system's.
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
		MaxResponseHeaderBytes: 256 << 10,
		IdleConnTimeout:        90 * time.Second,
		ExpectContinueTimeout:  time.Second,
		DisableCompression:     true,
		ReadBufferSize:         8 << 10, // larger pieces pass it by; an idle stream keeps it
	}
}
