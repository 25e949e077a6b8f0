package plan

import (
	"net/http"
	"net/textproto"
	"net/url"
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

func upstreamHeader(in http.Header) http.Header {
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

// takeVersion removes the api-version, whose name the service reads without case.
func takeVersion(query url.Values) (version string) {
	for name, values := range query {
		if strings.EqualFold(name, "api-version") {
			version = max(version, values[0])
			delete(query, name)
		}
	}
	return version
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
