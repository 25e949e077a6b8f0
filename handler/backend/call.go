package backend

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"aoaigateway/handler/body"
	"aoaigateway/handler/sse"
)

// Call is one request that any of several regions may answer.
type Call struct {
	Method string
	Path   string      // decoded, relative to the region's endpoint; the region's deployment name replaces {deployment}
	Query  url.Values  // without keys and without api-version
	Header http.Header // only headers that a region may see
	Body   *body.Body
	Edits  []body.Edit // what the gateway changes in the body, in every attempt
	// AskUsage asks for the usage of a stream, which a region may refuse; nil = the gateway does not ask.
	AskUsage *body.Edit
	// ModelEdit names the deployment in the body; nil = the path names it.
	ModelEdit        func(deployment string) body.Edit
	APIVersion       string        // empty = the request is sent without api-version
	Caller           string        // who asks, so that the failures of one caller can be told from those of several
	Model            string        // empty = any region can serve the call
	Stream           bool          // the client asked for a stream
	Need             int64         // tokens that the region deducts from its rate limit when the request arrives, as far as known
	FirstByteTimeout time.Duration // the model's own timeout; 0 = the pool's
	Pin              string        // name of the only region that may answer; empty = any
	PinReason        string        // the reason for Pin, in words that complete the sentence "The region that …"; clients see it
	Creates          bool          // it may create something, so it must not be sent again after a region may have carried it out
	Hedge            bool          // a second region may be asked when the first one is late
}

// Hold is what the present attempt of a request has charged to limits.
type Hold interface {
	// Again must be called before each further attempt. If the charge of the previous
	// attempt stays, Again charges once more. An error ends the call.
	Again(ctx context.Context) error
	// Keep is called when an attempt may have used tokens but reported no usage. The charge
	// of this attempt stays.
	Keep()
	// Hedge charges for a second attempt beside the present one. Do calls it on another
	// goroutine. If it fails, the present attempt continues alone.
	Hedge(ctx context.Context) (Hold, error)
	// Release gives back what was not kept. Do calls it once on each hold that Hedge
	// returned. It must not wait for a store.
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

// content returns the body of one attempt.
func (c *Call) content(t target, o tryOptions) body.Edited {
	edits := slices.Clone(c.Edits)
	if c.AskUsage != nil && !o.withoutUsage {
		edits = append(edits, *c.AskUsage)
	}
	if c.ModelEdit != nil && t.deployment != "" && t.deployment != c.Model {
		edits = append(edits, c.ModelEdit(t.deployment))
	}
	return c.Body.With(edits...)
}

// Answer is a region's answer. Whole is the body; if Rest is not nil, Whole is only its
// beginning and Rest is the remainder. In a stream, Next returns the events; those up to the
// first with output have been read already.
type Answer struct {
	Region     string
	Deployment string
	APIVersion string
	Status     int
	Header     http.Header

	Whole []byte
	Rest  io.Reader

	Events *sse.Reader // nil = no stream
	held   []sse.Event // read before the commit point; the answer owns their slices

	Pinned string // set if the answer is an error of the only region that may answer: says why no other region was asked

	UsageAsked bool // the gateway, not the client, asked for the usage chunk

	close func()
}

// Succeeded reports whether the region did the work, that is whether the status is below
// 300.
func (a *Answer) Succeeded() bool { return a.Status < http.StatusMultipleChoices }

// Close ends the attempt. It may be called again.
func (a *Answer) Close() {
	if a.close != nil {
		a.close()
	}
}

// Limits of Drain.
const (
	drainTime   = 250 * time.Millisecond
	drainEvents = 8
)

// Drain reads what follows the last event, up to a small size and for a short time, so that
// the connection can be used for another request.
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
