package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"aoaigateway/handler/admin"
	"aoaigateway/handler/auth"
	"aoaigateway/handler/usage"
)

// Remote calls the management API of a gateway. It has the same functions as admin.Manager.
type Remote struct {
	URL    string
	Key    string
	Client *http.Client
}

// Create implements verbs.
func (r *Remote) Create(ctx context.Context, n admin.NewSubscription) (c admin.Created, err error) {
	err = r.call(ctx, http.MethodPost, "subscriptions", n, &c)
	return c, err
}

// List implements verbs.
func (r *Remote) List(ctx context.Context) (list []auth.Subscription, err error) {
	err = r.call(ctx, http.MethodGet, "subscriptions", nil, &list)
	return list, err
}

// Show implements verbs.
func (r *Remote) Show(ctx context.Context, id string) (sub auth.Subscription, err error) {
	err = r.call(ctx, http.MethodGet, "subscriptions/"+url.PathEscape(id), nil, &sub)
	return sub, err
}

// Rotate implements verbs.
func (r *Remote) Rotate(ctx context.Context, id, slot string) (c admin.Created, err error) {
	err = r.call(ctx, http.MethodPost, "subscriptions/"+url.PathEscape(id)+"/rotate", admin.KeyRotation{Key: slot}, &c)
	return c, err
}

// SetState implements verbs.
func (r *Remote) SetState(ctx context.Context, id string, state auth.State) (sub auth.Subscription, err error) {
	for verb, s := range admin.StateVerbs {
		if s == state {
			err = r.call(ctx, http.MethodPost, "subscriptions/"+url.PathEscape(id)+"/"+verb, nil, &sub)
			return sub, err
		}
	}
	return sub, fmt.Errorf("the management API cannot set the state %q", state)
}

func (r *Remote) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(r.URL, "/")+"/manage/api/"+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Api-Key", r.Key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := r.Client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= 300 {
		var e struct {
			Message string `json:"message"`
		}
		if json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&e) != nil || e.Message == "" {
			e.Message = "the gateway answered " + resp.Status
		}
		return errors.New(e.Message)
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

// Usage implements verbs.
func (r *Remote) Usage(ctx context.Context, q usage.Query) (s usage.Summary, err error) {
	ask := url.Values{"from": {q.From.UTC().Format(time.RFC3339)}, "to": {q.To.UTC().Format(time.RFC3339)}, "by": {strings.Join(q.By, ",")}}
	err = r.call(ctx, http.MethodGet, "usage?"+ask.Encode(), nil, &s)
	return s, err
}
