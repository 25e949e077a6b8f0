package backend

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"aoaigateway/handler/openai"
	"aoaigateway/handler/sse"
)

// Call is one request to whichever region answers.
type Call struct {
	Method           string
	Path             string      // decoded, from the endpoint's root; {deployment} is replaced by the region's name
	Query            url.Values  // without keys and api-version
	Header           http.Header // only what a region may see
	Body             []byte
	PlainBody        []byte        // Body without the usage that the gateway asks for; nil when it asks for none
	APIVersion       string        // empty = send none
	Model            string        // empty = any region will do
	ModelInBody      bool          // the body names the deployment
	Stream           bool          // the client asked for a stream
	Need             int64         // tokens that a region charges on arrival, as far as known
	FirstByteTimeout time.Duration // the model's own; 0 = the pool's
	Pin              string        // only this region may answer; empty = any
	PinReason        string        // why, in words that follow "the region that"; clients read it
	Hedge            bool          // a second region may be asked beside a late one
}

// Hold is what a request has charged to limits for its present attempt.
type Hold interface {
	// Again is called before each further attempt and charges for it if the charge of the
	// one before stays. An error ends the call.
	Again(ctx context.Context) error
	// Keep is called when an attempt may have used tokens and reported no usage: its
	// charge stays.
	Keep()
	// Hedge charges for an attempt beside the present one. It is called on another
	// goroutine while Do runs. After an error only the present attempt goes on.
	Hedge(ctx context.Context) (Hold, error)
	// Release gives back what was not kept. Do calls it, once, on holds that Hedge
	// returned, and does not wait for a store.
	Release(ctx context.Context)
}

const deploymentSlot = "{deployment}"

func (c *Call) url(t target) string {
	u := *t.Endpoint
	path := c.Path
	if t.deployment != "" {
		path = strings.Replace(path, deploymentSlot, t.deployment, 1)
	}
	u.Path = strings.TrimSuffix(u.Path, "/") + path
	q := url.Values{}
	maps.Copy(q, c.Query)
	if version := c.version(t); version != "" {
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

func (c *Call) body(t target, o tryOptions) ([]byte, error) {
	body := c.Body
	if o.withoutUsage {
		body = c.PlainBody
	}
	if !c.ModelInBody || t.deployment == "" || t.deployment == c.Model {
		return body, nil
	}
	return openai.WithModel(body, t.deployment)
}

// Answer is what a region said. Whole holds the body, or only its beginning when Rest is
// not nil. Of a stream, Lead and First were read and Events yields what follows.
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

	Pinned string // set on an error of the only region that may answer: why no other was asked

	UsageAsked bool // the usage chunk is there because the gateway asked for it

	close func()
	broke func()
}

// Succeeded reports whether the region did the work: the status is below 300.
func (a *Answer) Succeeded() bool { return a.Status < http.StatusMultipleChoices }

// Broke reports that the region broke the answer off after the commit point.
func (a *Answer) Broke() {
	if a.broke != nil {
		a.broke()
	}
}

// Close ends the attempt. It may be called more than once.
func (a *Answer) Close() {
	if a.close != nil {
		a.close()
	}
}

// Bounds on what is read after the last event that matters.
const (
	drainTime   = 250 * time.Millisecond
	drainEvents = 8
)

// Drain reads what follows the last event that matters, a little and for a short time, so
// that the connection can serve the next request.
func (a *Answer) Drain() {
	if a.Events == nil {
		return
	}
	limit := time.AfterFunc(drainTime, a.Close)
	defer limit.Stop()
	for range drainEvents {
		if _, err := a.Events.Next(); err != nil {
			return
		}
	}
}
