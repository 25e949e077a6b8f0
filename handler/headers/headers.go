// Package headers says which headers and query parameters pass the gateway, in which
// direction.
package headers

import (
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
)

// neverUpstream are request headers that stay here: the caller's credentials, what the
// platform and the edge added, and what belongs to one hop (RFC 9110, 7.6.1).
var neverUpstream = headerSet(
	"Authorization", "Api-Key", "Ocp-Apim-Subscription-Key", "Cookie", "X-Functions-Key",
	"Forwarded", "Client-Ip", "Disguised-Host", "Was-Default-Hostname",
	"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Expect",
	"Host", "Content-Length", "Accept-Encoding", "X-Ms-Invocation-Id",
	"X-Http-Method", "X-Http-Method-Override", "X-Method-Override", // the operation was found by the real one
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

// Upstream returns the headers of a request that a region may see.
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

// namedByConnection: a header that Connection lists belongs to that hop too.
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

// CleanQuery drops what a query may carry of keys; the names are compared without case,
// as API Management does.
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

// neverDownstream are the headers of an answer that clients do not get: what belongs to
// one hop, and what only the region itself may set.
var neverDownstream = map[string]bool{
	"Set-Cookie": true, "Connection": true, "Proxy-Connection": true, "Keep-Alive": true, "Proxy-Authenticate": true,
	"Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true, "Content-Length": true,
	"Alt-Svc": true, "Strict-Transport-Security": true,
}

// Downstream copies the headers of a region's answer that the client of r may see.
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

// HasBody says whether an answer may have a body and a length (RFC 9110, 6.4.1). The
// Functions host answers 500 in the place of a 204 with a length.
func HasBody(status int) bool {
	return status >= http.StatusOK && status != http.StatusNoContent && status != http.StatusNotModified
}

// visible percent-encodes the bytes that are not visible ASCII. The Functions host answers
// 500 in the place of an answer whose header values have others.
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
