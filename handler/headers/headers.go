// Package headers decides which headers and query parameters the gateway passes on, from
// the client to a region and back.
package headers

import (
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
)

// neverUpstream are request headers that are not sent to a region: credentials of the
// caller, headers that the platform and the Application Gateway added, and headers of a
// single hop (RFC 9110, 7.6.1).
var neverUpstream = headerSet(
	"Authorization", "Api-Key", "Ocp-Apim-Subscription-Key", "Cookie", "X-Functions-Key",
	"Forwarded", "Client-Ip", "Disguised-Host", "Was-Default-Hostname",
	"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Expect",
	"Host", "Content-Length", "Accept-Encoding", "X-Ms-Invocation-Id",
	"X-Http-Method", "X-Http-Method-Override", "X-Method-Override", // the gateway has checked the real method, and these could change it
)

var neverUpstreamPrefix = []string{
	"X-Gateway-", "X-Forwarded-", "X-Client-", "X-Arr-", "X-Waws-", "X-Azure-", "X-Appservice-", "X-Site-",
	"X-Ms-Client-Principal", "X-Ms-Token-", "X-Original-",
}

func headerSet(names ...string) map[string]bool {
	set := map[string]bool{}
	for _, n := range names {
		set[textproto.CanonicalMIMEHeaderKey(n)] = true
	}
	return set
}

// Upstream returns a copy of the request headers that a region may see.
func Upstream(in http.Header) http.Header {
	out := make(http.Header, len(in))
	for name, values := range in {
		if !neverUpstream[name] && !hasPrefix(name, neverUpstreamPrefix) && !namedByConnection(in, name) {
			out[name] = values
		}
	}
	return out
}

func hasPrefix(name string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// namedByConnection reports whether the Connection header lists name. Such a header belongs
// to this hop only.
func namedByConnection(in http.Header, name string) bool {
	for _, list := range in["Connection"] {
		for token := range strings.SplitSeq(list, ",") {
			if textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(token)) == name {
				return true
			}
		}
	}
	return false
}

// CleanQuery removes parameters that can contain keys. As in API Management, the case of a
// name does not matter.
func CleanQuery(q url.Values) url.Values {
	out := make(url.Values, len(q))
	for name, values := range q {
		switch strings.ToLower(name) {
		case "code", "subscription-key", "api-key":
		default:
			out[name] = values
		}
	}
	return out
}

// neverDownstream are headers of an answer that clients do not get: headers of a single
// hop, and headers whose meaning is limited to the region's own host.
var neverDownstream = map[string]bool{
	"Set-Cookie": true, "Connection": true, "Proxy-Connection": true, "Keep-Alive": true, "Proxy-Authenticate": true,
	"Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true, "Content-Length": true,
	"Alt-Svc": true, "Strict-Transport-Security": true,
}

// Downstream copies from a region's answer the headers that the client of r may see.
func Downstream(to, from http.Header, r *http.Request) {
	for name, values := range from {
		if !neverDownstream[name] && !strings.HasPrefix(name, "X-Gateway-") {
			to[name] = visible(values)
		}
	}
	for _, name := range []string{"Location", "Operation-Location", "Content-Location"} {
		if v := from.Get(name); v != "" {
			to.Set(name, ownURL(v, r))
		}
	}
}

// HasBody reports whether an answer with this status may have a body and a Content-Length
// (RFC 9110, 6.4.1). The Functions host turns a 204 with a Content-Length into a 500.
func HasBody(status int) bool {
	return status >= http.StatusOK && status != http.StatusNoContent && status != http.StatusNotModified
}

// visible percent-encodes all bytes that are not visible ASCII. The Functions host turns an
// answer with such bytes in its headers into a 500.
func visible(values []string) []string {
	bad := func(c rune) bool { return (c < ' ' && c != '\t') || c > '~' }
	if !slices.ContainsFunc(values, func(v string) bool { return strings.ContainsFunc(v, bad) }) {
		return values
	}
	out := make([]string, len(values))
	for i, v := range values {
		var b strings.Builder
		for _, c := range []byte(v) {
			if bad(rune(c)) {
				fmt.Fprintf(&b, "%%%02X", c)
			} else {
				b.WriteByte(c)
			}
		}
		out[i] = b.String()
	}
	return out
}

// ownURL replaces the host of a region by the host that the client used.
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
