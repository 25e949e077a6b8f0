package front

import (
	"net/http/httptest"
	"testing"
)

func TestClientIP(t *testing.T) {
	for _, c := range []struct {
		name    string
		hops    hops
		remote  string
		headers map[string]string
		want    string
	}{
		{"direct", hops{}, "9.9.9.9:1234", nil, "9.9.9.9"},
		{"direct, IPv6", hops{}, "[2001:db8::1]:1234", nil, "2001:db8::1"},
		{"App Service", hops{inAzure: true}, "10.0.0.1:1", map[string]string{"Client-Ip": "1.2.3.4:5678"}, "1.2.3.4"},
		{"App Service, IPv6", hops{inAzure: true}, "10.0.0.1:1", map[string]string{"Client-Ip": "[2001:db8::1]:5678"}, "2001:db8::1"},
		{"App Service names none", hops{inAzure: true}, "10.0.0.1:1", nil, ""},
		{
			"Application Gateway",
			hops{true, true},
			"10.0.0.1:1",
			map[string]string{"X-Gateway-Client-Ip": "1.2.3.4", "Client-Ip": "10.0.0.2"},
			"1.2.3.4",
		},
		{"Application Gateway names none", hops{true, true}, "10.0.0.1:1", map[string]string{"Client-Ip": "10.0.0.2"}, ""},
		{"its header without it", hops{inAzure: true}, "10.0.0.1:1", map[string]string{"X-Gateway-Client-Ip": "1.2.3.4"}, ""},
		{"X-Forwarded-For", hops{inAzure: true}, "10.0.0.1:1", map[string]string{"X-Forwarded-For": "1.2.3.4"}, ""},
		{"no address", hops{fronted: true}, "10.0.0.1:1", map[string]string{"X-Gateway-Client-Ip": "unknown"}, ""},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.remote
		for name, value := range c.headers {
			r.Header.Set(name, value)
		}
		if got := c.hops.clientIP(r); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
