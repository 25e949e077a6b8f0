package proxy

import (
	"net/http"
	"net/url"
	"strings"
)

// neverDownstream are the headers of an answer that clients do not get: what belongs to
// one hop, and what only the region itself may set.
var neverDownstream = map[string]bool{
	"Set-Cookie": true, "Connection": true, "Proxy-Connection": true, "Keep-Alive": true, "Proxy-Authenticate": true,
	"Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true, "Content-Length": true,
	"Alt-Svc": true, "Strict-Transport-Security": true,
}

func copyDownstream(to, from http.Header, r *http.Request) {
	for name, values := range from {
		if !neverDownstream[name] && !strings.HasPrefix(name, "X-Gateway-") {
			to[name] = values
		}
	}
	for _, name := range []string{"Location", "Operation-Location", "Content-Location"} {
		if v := from.Get(name); v != "" {
			to.Set(name, ownURL(v, r))
		}
	}
}

// ownURL puts the host the client used in the place of a region's.
func ownURL(location string, r *http.Request) string {
	u, err := url.Parse(location)
	if err != nil {
		return ""
	}
	if u.Host == "" {
		return location
	}
	u.Host, u.Scheme, u.User = r.Host, "https", nil
	if h := r.Header.Get("X-Forwarded-Host"); h != "" {
		u.Host = h
	}
	if s := r.Header.Get("X-Forwarded-Proto"); s != "" {
		u.Scheme = s
	}
	return u.String()
}
