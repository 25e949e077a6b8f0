package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	"aoaigateway/handler/auth"
	"aoaigateway/handler/backend"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/secret"
)

// API serves /manage. Every call needs the admin key or an Entra token with the role
// auth.AdminRole.
type API struct {
	Manager        *Manager
	Pool           *backend.Pool
	Secrets        secret.Source
	AdminKeySecret string      // name of the secret that holds the admin key
	Entra          *auth.Entra // nil = tokens are not accepted
}

// Serve answers one call. If it returns a *gateway.Error, the caller must send the error to
// the client.
func (a *API) Serve(w http.ResponseWriter, r *http.Request) error {
	if err := a.authorize(r); err != nil {
		return err
	}
	rest, ok := strings.CutPrefix(r.URL.Path, "/manage/api/")
	if !ok {
		return errNotFound("")
	}
	parts := strings.Split(rest, "/")
	switch {
	case rest == "subscriptions":
		return a.subscriptions(w, r)
	case rest == "regions" && r.Method == http.MethodGet:
		return reply(w, http.StatusOK, a.Pool.Health())
	case rest == "usage" && r.Method == http.MethodGet:
		return a.usage(w, r)
	case parts[0] == "subscriptions" && len(parts) == 2:
		return a.subscription(w, r, parts[1])
	case parts[0] == "subscriptions" && len(parts) == 3:
		return a.change(w, r, parts[1], parts[2])
	}
	return errNotFound("")
}

func (a *API) subscriptions(w http.ResponseWriter, r *http.Request) error {
	switch r.Method {
	case http.MethodGet:
		list, err := a.Manager.List(r.Context())
		if err != nil {
			return err
		}
		return reply(w, http.StatusOK, list)
	case http.MethodPost:
		var n NewSubscription
		if err := decode(r, &n); err != nil {
			return err
		}
		created, err := a.Manager.Create(r.Context(), n)
		if err != nil {
			return err
		}
		return reply(w, http.StatusCreated, created)
	}
	return errNotFound("GET, POST")
}

func (a *API) subscription(w http.ResponseWriter, r *http.Request, id string) error {
	if r.Method != http.MethodGet {
		return errNotFound(http.MethodGet)
	}
	sub, err := a.Manager.Show(r.Context(), id)
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, sub)
}

// StateVerbs are the verbs that change the state of a subscription, each with the new
// state.
var StateVerbs = map[string]auth.State{"suspend": auth.Suspended, "resume": auth.Active, "cancel": auth.Cancelled}

func (a *API) change(w http.ResponseWriter, r *http.Request, id, verb string) error {
	if r.Method != http.MethodPost {
		return errNotFound(http.MethodPost)
	}
	if state, ok := StateVerbs[verb]; ok {
		sub, err := a.Manager.SetState(r.Context(), id, state)
		if err != nil {
			return err
		}
		return reply(w, http.StatusOK, sub)
	}
	if verb != "rotate" {
		return errNotFound("")
	}
	var which KeyRotation
	if err := decode(r, &which); err != nil {
		return err
	}
	created, err := a.Manager.Rotate(r.Context(), id, which.Key)
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, created)
}

// KeyRotation is the body of a call that replaces a key.
type KeyRotation struct {
	Key string `json:"key"` // the key to replace: primary or secondary
}

// authorize checks the admin key or the token. It compares hashes of keys, so that the time
// which it takes reveals nothing about the key.
func (a *API) authorize(r *http.Request) error {
	given := r.Header.Get("Api-Key")
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok && given == "" {
		given = bearer
	}
	if given == "" {
		return gateway.AdminKeyNotFound.Because(nil)
	}
	if a.Entra != nil && auth.IsToken(given) {
		return a.authorizeToken(r, given)
	}
	want, err := a.Secrets.Get(r.Context(), a.AdminKeySecret)
	if err != nil && !errors.Is(err, secret.ErrNotFound) {
		return gateway.AdminKeyUnavailable.Because(err)
	}
	g, wanted := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(want))
	if want == "" || subtle.ConstantTimeCompare(g[:], wanted[:]) != 1 {
		return gateway.AdminKeyInvalid.Because(err)
	}
	return nil
}

func (a *API) authorizeToken(r *http.Request, token string) error {
	who, err := a.Entra.Verify(r.Context(), token)
	if err != nil {
		return err
	}
	if !slices.Contains(who.Roles, auth.AdminRole) {
		return gateway.TokenClaimValueNotAllowed.New("Access denied: the Entra token lacks the app role %s.", auth.AdminRole)
	}
	return nil
}

const maxBody = 64 << 10

func decode(r *http.Request, into any) error {
	d := json.NewDecoder(io.LimitReader(r.Body, maxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return gateway.MalformedRequest.New("The request body is not the expected JSON object: %v.", err)
	}
	return nil
}

func reply(w http.ResponseWriter, status int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // an error means that the client has disconnected
	return nil
}

func errNotFound(allow string) error {
	e := gateway.OperationNotFound.Because(nil)
	e.Allow = allow
	return e
}
