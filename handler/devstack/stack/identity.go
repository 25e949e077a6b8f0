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

// Identity simulates App Service's managed-identity endpoint: GET
// ?resource=…&api-version=2019-08-01 with the header X-IDENTITY-HEADER.
type Identity struct {
	URL, Header string // values for IDENTITY_ENDPOINT and IDENTITY_HEADER
	Stop        func()
}

// regionAudience is the resource of tokens for Azure OpenAI.
const regionAudience = "https://cognitiveservices.azure.com"

// StartIdentity starts the endpoint. For Azure OpenAI it returns token, because the
// simulated regions accept only one token. For all other resources it makes tokens with
// tokens.
func StartIdentity(token string, tokens loganalytics.Tokens) (*Identity, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	id := &Identity{URL: "http://" + l.Addr().String() + "/msi/token", Header: secret()}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Header.Get("X-IDENTITY-HEADER") != id.Header || r.URL.Query().Get("resource") == "" {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"statusCode":400,"message":"X-IDENTITY-HEADER or resource is missing or wrong"}`))
			return
		}
		resource, made := r.URL.Query().Get("resource"), token
		if strings.TrimRight(resource, "/") != regionAudience {
			made = tokens.Make(resource, 24*time.Hour)
		}
		_ = json.NewEncoder(w).Encode(map[string]string{
			"access_token": made, "token_type": "Bearer", "resource": resource,
			"expires_on": strconv.FormatInt(time.Now().Add(24*time.Hour).Unix(), 10), "client_id": "00000000-0000-0000-0000-000000000000",
		})
	})}
	go func() { _ = server.Serve(l) }()
	id.Stop = func() { _ = server.Close() }
	return id, nil
}
