package front

import (
	"net"
	"net/http"
	"strings"
)

// hops says which servers stand between the client and the gateway.
type hops struct {
	fronted bool // true = the Application Gateway, which names the client in X-Gateway-Client-IP
	inAzure bool // true = the front end of App Service and the Functions host
}

// clientIP returns the client's address as a trusted server names it, or "" if none does.
// It ignores X-Forwarded-For, because the Functions host overwrites this header with the
// address of its own peer.
func (h hops) clientIP(r *http.Request) string {
	switch {
	case h.fronted:
		return parseIP(r.Header.Get("X-Gateway-Client-Ip"))
	case r.Header.Get("Client-Ip") != "":
		return parseIP(r.Header.Get("Client-Ip"))
	case h.inAzure:
		return ""
	default:
		return parseIP(r.RemoteAddr)
	}
}

// parseIP returns the address in s, which may carry a port, or "" if s is not an address.
func parseIP(s string) string {
	s = strings.TrimSpace(s)
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	}
	if ip := net.ParseIP(strings.Trim(s, "[]")); ip != nil {
		return ip.String()
	}
	return ""
}
