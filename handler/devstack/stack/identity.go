package stack

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"aoaigateway/handler/devstack/loganalytics"
)

// IdentityOptions of StartIdentity.
type IdentityOptions struct {
	RegionToken string              // the token for Azure OpenAI, because the simulated regions accept only one
	Tokens      loganalytics.Tokens // makes the tokens for all other resources
	FirstToken  time.Duration       // how long the first token takes; default 6 s, as users measured on App Service
}

// Identity simulates the managed-identity endpoint of App Service for an app that has only a
// user-assigned identity: GET ?resource=…&api-version=2019-08-01&client_id=… with the header
// X-IDENTITY-HEADER.
type Identity struct {
	URL, Header, ClientID string // values for IDENTITY_ENDPOINT, IDENTITY_HEADER and AZURE_CLIENT_ID
	Stop                  func()

	options IdentityOptions

	mu      sync.Mutex
	calls   map[string]int // by resource
	refusal int            // status to answer; 0 = none
}

const (
	regionAudience = "https://cognitiveservices.azure.com" // the resource of tokens for Azure OpenAI
	laterToken     = 20 * time.Millisecond                 // how long a token takes that the platform has already
)

// StartIdentity starts the endpoint.
func StartIdentity(o IdentityOptions) (*Identity, error) {
	o.FirstToken = cmp.Or(o.FirstToken, 6*time.Second)
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	id := &Identity{
		URL: "http://" + l.Addr().String() + "/msi/token", Header: secret(), ClientID: "client-" + secret(), options: o, calls: map[string]int{},
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: id}
	go func() { _ = server.Serve(l) }()
	id.Stop = func() { _ = server.Close() }
	return id, nil
}

// Environ returns the settings of a process that uses the endpoint.
func (id *Identity) Environ() []string {
	return []string{"IDENTITY_ENDPOINT=" + id.URL, "IDENTITY_HEADER=" + id.Header, "AZURE_CLIENT_ID=" + id.ClientID}
}

// Fail makes the endpoint answer all requests with status; 0 ends that.
func (id *Identity) Fail(status int) {
	id.mu.Lock()
	defer id.mu.Unlock()
	id.refusal = status
}

// Calls returns the number of requests for tokens so far, by resource.
func (id *Identity) Calls(resource string) int {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.calls[resource]
}

// count records a call and returns how long it takes and the status to refuse it with.
func (id *Identity) count(resource string) (wait time.Duration, refusal int) {
	id.mu.Lock()
	defer id.mu.Unlock()
	wait = laterToken
	if len(id.calls) == 0 {
		wait = id.options.FirstToken
	}
	id.calls[resource]++
	return wait, id.refusal
}

// ServeHTTP implements http.Handler.
func (id *Identity) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	query := r.URL.Query()
	refuse := func(status int, message string) {
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"statusCode":%d,"message":%q}`, status, message)
	}
	switch {
	case r.Header.Get("X-IDENTITY-HEADER") != id.Header:
		refuse(http.StatusBadRequest, "X-IDENTITY-HEADER is missing or wrong")
		return
	case query.Get("api-version") != "2019-08-01" || query.Get("resource") == "":
		refuse(http.StatusBadRequest, "resource is missing, or api-version is not 2019-08-01")
		return
	case query.Get("client_id") != id.ClientID:
		refuse(http.StatusBadRequest, "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId.")
		return
	}
	resource := strings.TrimRight(query.Get("resource"), "/")
	wait, refusal := id.count(resource)
	select {
	case <-time.After(wait):
	case <-r.Context().Done():
		return
	}
	if refusal != 0 {
		refuse(refusal, http.StatusText(refusal))
		return
	}
	token := id.options.RegionToken
	if resource != regionAudience {
		token = id.options.Tokens.Make(query.Get("resource"), 24*time.Hour)
	}
	_ = json.NewEncoder(w).Encode(map[string]string{
		"access_token": token, "token_type": "Bearer", "resource": query.Get("resource"), "client_id": id.ClientID,
		"expires_on": strconv.FormatInt(time.Now().Add(24*time.Hour).Unix(), 10),
	})
}
