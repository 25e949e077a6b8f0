package stack

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"aoaigateway/handler/devstack/loganalytics"
)

// identity is the managed-identity endpoint of App Service on this machine: GET
// ?resource=…&api-version=2019-08-01 with the header X-IDENTITY-HEADER.
type identity struct {
	url, header string
	stop        func()
}

// regionAudience is the resource that tokens for Azure OpenAI are asked for.
const regionAudience = "https://cognitiveservices.azure.com"

func startIdentity(token string, tokens loganalytics.Tokens) (*identity, error) {
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
		resource, made := r.URL.Query().Get("resource"), token // the simulated regions know one token only
		if strings.TrimRight(resource, "/") != regionAudience {
			made = tokens.Make(resource, 24*time.Hour)
		}
		_ = json.NewEncoder(w).Encode(map[string]string{
			"access_token": made, "token_type": "Bearer", "resource": resource,
			"expires_on": strconv.FormatInt(time.Now().Add(24*time.Hour).Unix(), 10), "client_id": "00000000-0000-0000-0000-000000000000",
		})
	})}
	go func() { _ = server.Serve(l) }()
	id.stop = func() { _ = server.Close() }
	return id, nil
}
