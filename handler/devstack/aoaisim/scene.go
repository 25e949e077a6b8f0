package aoaisim

import (
	"strconv"
	"strings"
	"time"
)

// scene is the data of a scenario's templates: what a refusal has to say, and what is known
// of the region and the request.
type scene struct {
	Param, Text   string
	Limit, Number int
	Axis          string // token or call
	Millis        int64  // the wait of a refusal

	p *performance
}

// defaultWait is the wait that scenarios of a throttled deployment state unless the limits
// say otherwise.
const defaultWait = 4 * time.Second

func (c scene) complete(p *performance) *scene {
	c.p = p
	if c.Axis == "" {
		c.Axis = "token"
	}
	if c.Millis == 0 {
		c.Millis = defaultWait.Milliseconds()
	}
	return &c
}

// Seconds is the wait in whole seconds, rounded up.
func (c *scene) Seconds() int64 { return (c.Millis + 999) / 1000 }

// AxisType and AxisPolicy name the axis in headers.
func (c *scene) AxisType() string {
	return map[string]string{"token": "Tokens", "call": "Requests"}[c.Axis]
}

func (c *scene) AxisPolicy() string {
	return map[string]string{"token": "Token", "call": "Call"}[c.Axis]
}

// Seq is the number of the next event of a Responses stream.
func (c *scene) Seq() int {
	c.p.seq++
	return c.p.seq - 1
}

// Item returns the id of an item with this prefix. It is the same in the whole answer, and
// the region knows it from then on.
func (c *scene) Item(prefix string) string {
	id := c.p.a.objectID(prefix)
	if c.p.q.stored() {
		c.p.x.region.objects.put(id, &object{})
	}
	return id
}

// Response is the id of the response.
func (c *scene) Response() string { return c.p.a.objectID("resp_") }

// Encrypted is encrypted reasoning that only this region can read.
func (c *scene) Encrypted() string { return c.p.x.region.encrypted() }

// ID is the answer's id without a prefix.
func (c *scene) ID() string { return c.p.a.id }

// Created is the time of the answer.
func (c *scene) Created() string {
	if c.p.a == nil {
		return itoa(time.Now().Unix())
	}
	return itoa(c.p.a.created)
}

// Deployment is the name that the request used.
func (c *scene) Deployment() string { return c.p.x.deployment }

// Model is the versioned name of the deployed model.
func (c *scene) Model() string {
	return c.p.x.region.modelOf(c.p.x.deployment).version()
}

// RegionName is the region's name as the service displays it.
func (c *scene) RegionName() string { return display(c.p.x.region.o.Name) }

// RequestID is the id in x-request-id.
func (c *scene) RequestID() string { return c.p.x.w.Header().Get("x-request-id") }

// Version, OperationName, Surface and ModelOperation are in the service's messages.
func (c *scene) Version() string {
	if v := c.p.x.route.apiVersion; v != "" {
		return v
	}
	return "v1"
}

func (c *scene) OperationName() string { return c.p.x.route.name() }

func (c *scene) Surface() string {
	if c.p.x.route.v1 {
		return "OpenAI Language Model Instance API"
	}
	return "Azure OpenAI API version " + c.Version()
}

func (c *scene) ModelOperation() string {
	return map[string]string{
		opChat: "chatCompletion", opCompletions: "completion", opEmbeddings: "embeddings", opResponses: "responses",
	}[c.p.x.route.operation]
}

// Action is the data action of the operation, PathTemplate its path.
func (c *scene) Action() string {
	if c.p.x.route.operation == opResponses {
		return "responses/write"
	}
	return "deployments/" + c.p.x.route.operation + "/action"
}

func (c *scene) PathTemplate() string {
	if c.p.x.route.deployment == "" {
		return "/openai/" + c.p.x.route.operation
	}
	return "/openai/deployments/{deployment-id}/" + c.p.x.route.operation
}

// Tool is the name of the first tool of the request.
func (c *scene) Tool() string { return c.p.q.tool() }

// Usage is the usage of the ordinary answer, in the form of the operation.
func (c *scene) Usage() string {
	if c.p.x.route.operation == opResponses {
		return c.p.a.usage.responses()
	}
	return c.p.a.usage.chat()
}

// Quoted is a text as JSON.
func (*scene) Quoted(s string) string { return quote(s) }

// Pad is a text of n bytes.
func (*scene) Pad(n int) string { return strings.Repeat("File x, line 1; ", n/16) }

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
