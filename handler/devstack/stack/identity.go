package stack

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"time"
)

// identity is the managed-identity endpoint of App Service on this machine: GET
// ?resource=…&api-version=2019-08-01 with the header X-IDENTITY-HEADER.
type identity struct {
	url, header string
	stop        func()
}

func startIdentity(token string) (*identity, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	id := &identity{url: "http://" + l.Addr().String() + "/msi/token", header: secret()}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Header.Get("X-IDENTITY-HEADER") != id.header || r.URL.Query().Get("resource") == "" {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"statusCode":400,"message":"X-IDENTITY-HEADER or resource is missing or wrong"}`))
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{
			"access_token": token, "token_type": "Bearer", "resource": r.URL.Query().Get("resource"),
			"expires_on": strconv.FormatInt(time.Now().Add(24*time.Hour).Unix(), 10), "client_id": "00000000-0000-0000-0000-000000000000",
		})
	})}
	go func() { _ = server.Serve(l) }()
	id.stop = func() { _ = server.Close() }
	return id, nil
}
