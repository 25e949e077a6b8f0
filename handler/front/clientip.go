package front

import (
	"net"
	"net/http"
	"strings"
)

// hops says what stands between the client and the gateway.
type hops struct {
	fronted bool // the Application Gateway
	inAzure bool // the front end of App Service
}

// clientIP is the address that a trusted hop names, or empty. X-Forwarded-For is never
// trusted: the Functions host overwrites it with its own peer.
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

// parseIP reads an address with or without a port. It returns "" for anything else.
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
