package backend

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/openai"
	"aoaigateway/handler/sse"
)

// Call is one request to whichever region answers. The pool reads it and fills Attempts.
type Call struct {
	Method           string
	Path             string      // decoded, from the endpoint's root; {deployment} stands for the region's name
	Query            url.Values  // without keys and api-version
	Header           http.Header // already cleaned of everything a region must not see
	Body             []byte
	PlainBody        []byte        // Body without the usage we asked for; nil when we asked for none
	APIVersion       string        // empty = send none
	Model            string        // empty = any region will do
	ModelInBody      bool          // the body names the deployment
	Stream           bool          // the client asked for a stream
	Need             int64         // tokens a region will hold for it, as far as known
	FirstByteTimeout time.Duration // the model's own time-out; 0 = the pool's
	Pin              string        // only this region may answer; empty = any
	PinReason        string        // why, in words that follow "the region that"; clients read it

	// Before is called ahead of every further region; an error ends the call.
	Before func(context.Context) error
	// Kept is called when an attempt may have used tokens and said nothing of them.
	Kept func()
	// Beside, if set, allows a second region to be asked while the first is late. It is
	// called ahead of that, from another goroutine while Do runs, for a hold as large as
	// the first; an error, and only the first is waited for. release is called once, when
	// either attempt is over without being the answer: kept is as in Kept.
	Beside func(context.Context) (release func(kept bool), err error)

	Attempts []gateway.Attempt
}

// again asks for leave to try a further region.
func (c *Call) again(ctx context.Context) error {
	if len(c.Attempts) == 0 || c.Before == nil {
		return nil
	}
	return c.Before(ctx)
}

const deploymentSlot = "{deployment}"

func (c *Call) url(t target, version string) string {
	u := *t.Endpoint
	path := c.Path
	if t.deployment != "" {
		path = strings.Replace(path, deploymentSlot, t.deployment, 1)
	}
	u.Path = strings.TrimSuffix(u.Path, "/") + path
	q := url.Values{}
	maps.Copy(q, c.Query)
	if version != "" {
		q.Set("api-version", version)
	}
	u.RawQuery = q.Encode()
	return u.String()
}

func (c *Call) version(t target) string {
	if t.APIVersion != "" && c.APIVersion != "" {
		return t.APIVersion
	}
	return c.APIVersion
}

func (c *Call) body(t target, plain bool) ([]byte, error) {
	body := c.Body
	if plain {
		body = c.PlainBody
	}
	if !c.ModelInBody || t.deployment == "" || t.deployment == c.Model {
		return body, nil
	}
	return openai.WithModel(body, t.deployment)
}

// Answer is what a region said. Whole holds the body, or its beginning when Rest is not
// nil; for a stream Lead and First were read and Events yields what follows.
type Answer struct {
	Region     string
	Deployment string
	APIVersion string
	Status     int
	Header     http.Header

	Whole []byte
	Rest  io.Reader

	Lead   []byte    // comments before the first event
	First  sse.Event // its slices belong to the answer
	Events *sse.Reader

	Pinned string // an error of the one region that may answer: why no other was asked

	UsageAsked bool // the usage chunk is there because we asked

	close func()
	broke func()
}

// Broke reports that the region broke the answer off after the commit point.
func (a *Answer) Broke() {
	if a.broke != nil {
		a.broke()
	}
}

// Close ends the exchange with the region; it may be called more than once.
func (a *Answer) Close() {
	if a.close != nil {
		a.close()
	}
}

// Drain reads what is left after the last event that matters, a little and not for long,
// so that the connection can serve the next request.
func (a *Answer) Drain() {
	if a.Events == nil {
		return
	}
	limit := time.AfterFunc(drainTime, a.Close)
	defer limit.Stop()
	for range 8 {
		if _, err := a.Events.Next(); err != nil {
			return
		}
	}
}

const drainTime = 250 * time.Millisecond
