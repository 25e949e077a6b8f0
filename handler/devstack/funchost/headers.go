package funchost

import (
	"cmp"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"aoaigateway/handler/devstack/kestrel"
)

// dropped are the headers that pass in neither direction. What a Connection header names stays.
var dropped = []string{
	"Connection", "Transfer-Encoding", "Content-Length", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authentication-Info",
	"Proxy-Authorization", "Proxy-Features", "Proxy-Instruction", "Security-Scheme", "ALPN", "Close", "TE", "Alt-Svc", "HTTP2-Settings",
	"Upgrade-Insecure-Requests", "Upgrade", "Strict-Transport-Security",
}

// replaced are request headers of the caller that the host leaves out or sets itself.
var replaced = []string{
	"Host", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix",
	"X-Azure-Functions-HostVersion", "X-Azure-Functions-InvocationId", "x-ms-invocation-id",
}

func among(list []string, name string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, name) })
}

// requestHeader is the header as the handler gets it.
func (h *Host) requestHeader(x *kestrel.Exchange, host, id string) kestrel.Fields {
	out := kestrel.Fields{{Name: "Host", Value: host}}
	out = append(out, framing(x)...)
	if strings.EqualFold(x.Header.Get("Upgrade"), "websocket") {
		out = append(out, kestrel.Field{Name: "Connection", Value: "Upgrade"}, kestrel.Field{Name: "Upgrade", Value: "websocket"})
	}
	caller := joined(x.Header)
	if h.o.FrontEnd {
		caller = frontEnd(x, caller)
	}
	for _, f := range caller {
		if !among(dropped, f.Name) && !among(replaced, f.Name) {
			out = append(out, f)
		}
	}
	peer, _, _ := net.SplitHostPort(x.Peer().String())
	forwardedHost, proto := x.Header.Get("Host"), "http"
	if h.o.flex() {
		forwardedHost = cmp.Or(caller.Get("Disguised-Host"), forwardedHost)
		proto = cmp.Or(x.Header.Get("X-Forwarded-Proto"), proto)
	}
	return append(out,
		kestrel.Field{Name: "X-Azure-Functions-HostVersion", Value: h.o.Version},
		kestrel.Field{Name: "X-Azure-Functions-InvocationId", Value: id},
		kestrel.Field{Name: "x-ms-invocation-id", Value: id},
		kestrel.Field{Name: "X-Forwarded-For", Value: peer}, // the host's peer, never the chain before it
		kestrel.Field{Name: "X-Forwarded-Host", Value: forwardedHost},
		kestrel.Field{Name: "X-Forwarded-Proto", Value: proto})
}

// framing says how the body follows. With both a length and chunks the length passes under another name.
func framing(x *kestrel.Exchange) (out kestrel.Fields) {
	length := x.Header.Get("Content-Length")
	switch {
	case x.Length < 0:
		out = append(out, kestrel.Field{Name: "Transfer-Encoding", Value: "chunked"})
		if length != "" {
			out = append(out, kestrel.Field{Name: "X-Content-Length", Value: length})
		}
	case length != "":
		out = append(out, kestrel.Field{Name: "Content-Length", Value: strings.TrimPrefix(length, "+")})
	case !slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodDelete}, x.Method):
		out = append(out, kestrel.Field{Name: "Content-Length", Value: "0"})
	}
	return out
}

// joined makes one line of the lines of one name.
func joined(header kestrel.Fields) (out kestrel.Fields) {
	for _, f := range header {
		i := slices.IndexFunc(out, func(o kestrel.Field) bool { return strings.EqualFold(o.Name, f.Name) })
		switch {
		case i < 0:
			out = append(out, f)
		case strings.EqualFold(f.Name, "Cookie"):
			out[i].Value += "; " + f.Value
		default:
			out[i].Value += ", " + f.Value
		}
	}
	return out
}

// frontEnd adds what the platform's front end sets, in place of what the caller sent.
func frontEnd(x *kestrel.Exchange, caller kestrel.Fields) kestrel.Fields {
	address := x.Peer().String()
	peer, port, _ := net.SplitHostPort(address)
	host := x.Header.Get("Host")
	set := kestrel.Fields{
		{Name: "Client-Ip", Value: address},
		{Name: "X-Client-Ip", Value: peer},
		{Name: "X-Client-Port", Value: port},
		{Name: "Disguised-Host", Value: host},
		{Name: "Was-Default-Hostname", Value: host},
		{Name: "X-Arr-Log-Id", Value: uuid.NewString()},
		{Name: "X-Site-Deployment-Id", Value: "gateway"},
		{Name: "X-Original-Url", Value: kestrel.EncodePath(x.Path) + x.Query},
		{Name: "X-Waws-Unencoded-Url", Value: kestrel.EncodePath(x.Path)},
		{Name: "X-Appservice-Proto", Value: "http"},
		{Name: "Max-Forwards", Value: "10"},
	}
	kept := slices.DeleteFunc(caller, func(f kestrel.Field) bool {
		return slices.ContainsFunc(set, func(s kestrel.Field) bool { return strings.EqualFold(s.Name, f.Name) })
	})
	return append(kept, set...)
}

// isASCII tells whether every value can be sent: the host's client and server both refuse other characters.
func isASCII(header kestrel.Fields) bool {
	for _, f := range header {
		if strings.ContainsFunc(f.Value, func(r rune) bool { return r >= 0x7f }) {
			return false
		}
	}
	return true
}

// answerHeader is the header as the caller gets it. Trailers are dropped, their announcement passes.
func answerHeader(resp *http.Response) (out kestrel.Fields) {
	for name, values := range resp.Header {
		if among(dropped, name) {
			continue
		}
		for _, v := range values {
			out = append(out, kestrel.Field{Name: name, Value: v})
		}
	}
	for name := range resp.Trailer {
		out = append(out, kestrel.Field{Name: "Trailer", Value: name})
	}
	slices.SortStableFunc(out, func(a, b kestrel.Field) int { return strings.Compare(a.Name, b.Name) })
	return out
}
