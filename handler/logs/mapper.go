package logs

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"strings"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/logs/truncate"
)

// Mapper makes rows from the journal's entries. It has no state. Safe for concurrent use.
type Mapper struct {
	// BodyURL is the URL of the container of the journal's blobs, such as
	// https://<account>.blob.core.windows.net/audit. The names of blobs are appended to it.
	BodyURL string
	// Open opens the blob of a large body, so that the row can have the truncated body. If
	// Open is nil or fails, the row has a placeholder with the size and hash of the body
	// and the record's usage.
	Open func(ctx context.Context, name string) (io.ReadCloser, error)
}

// Row returns the row of an entry. It returns false for a begin record. It also returns
// false for an amend record that has only an outcome, because its row would replace the
// complete row of the same request.
func (m Mapper) Row(ctx context.Context, e gateway.Entry) (Row, bool) {
	line := &e.Line
	switch line.Type {
	case gateway.End:
		return m.ended(ctx, &e, revisionEnd), true
	case gateway.Amend:
		if line.Method == "" {
			return Row{}, false
		}
		return m.ended(ctx, &e, revisionAmend), true
	case gateway.Incomplete:
		line.Usage, line.Cost, line.Response, line.Status = gateway.Usage{}, nil, nil, 0
		line.Outcome = gateway.Outcome(gateway.Incomplete)
		row := newRow(line, e.Chain, revisionIncomplete)
		request := m.request(ctx, &e, &row)
		row.BackendRequestBody, row.BodyTruncatedInRow = request.text, !request.whole
		return row, true
	case gateway.Begin:
	}
	return Row{}, false
}

func (m Mapper) ended(ctx context.Context, e *gateway.Entry, revision int) Row {
	row := newRow(&e.Line, e.Chain, revision)
	request, response := m.request(ctx, e, &row), m.response(ctx, e, &row)
	row.BodyTruncatedInRow = !request.whole || !response.whole
	if row.AttemptCount == 0 {
		row.RequestBody, row.ResponseBody = request.text, response.text
	} else {
		row.BackendRequestBody, row.BackendResponseBody = request.text, response.text
	}
	row.ContentFilter = contentFilter(e.Response)
	return row
}

func (m Mapper) request(ctx context.Context, e *gateway.Entry, row *Row) content {
	b := e.Request
	if b == nil {
		return content{whole: true}
	}
	c, ok := m.content(ctx, b)
	if !ok {
		n := placeholderFor(b)
		n.Model = short(e.Model, 256)
		c = n.content()
	}
	row.RequestBodyURI = m.uri(b, c, e.File)
	return c
}

func (m Mapper) response(ctx context.Context, e *gateway.Entry, row *Row) content {
	if e.Response == nil {
		return content{whole: true}
	}
	b := *e.Response
	if len(b.Assembled) > 0 {
		b.Assembled = withUsage(b.Assembled, row.OperationID, e.Usage)
	}
	c, ok := m.content(ctx, &b)
	if !ok {
		n := placeholderFor(&b)
		if e.Usage != (gateway.Usage{}) {
			n.Object, n.Model, n.Usage = objects[row.OperationID], row.ModelName, usageJSON(row.OperationID, e.Usage)
		}
		c = n.content()
	}
	row.BodyURI = m.uri(&b, c, e.File)
	return c
}

// content returns a body from its record or from its blob; false = neither has it.
func (m Mapper) content(ctx context.Context, b *gateway.Body) (content, bool) {
	if c, ok := contentOf(b); ok {
		return c, true
	}
	if b.Blob == "" || m.Open == nil || !strings.Contains(b.ContentType, "json") {
		return content{}, false
	}
	blob, err := m.Open(ctx, b.Blob)
	if err != nil {
		return content{}, false
	}
	defer func() { _ = blob.Close() }()
	value, err := truncate.Stream(blob)
	if err != nil {
		return content{}, false
	}
	c, ok := truncated(value)
	c.whole = false
	return c, ok
}

// uri returns the URL of a body that is not complete in its row, or "".
func (m Mapper) uri(b *gateway.Body, c content, file string) string {
	switch {
	case b.Blob != "":
		return m.url(b.Blob)
	case !c.whole && b.HasContent() && file != "":
		return m.url(file)
	default:
		return ""
	}
}

func (m Mapper) url(name string) string {
	if m.BodyURL == "" {
		return name
	}
	return m.BodyURL + "/" + name
}

func (row *Row) setOutcome(o gateway.Outcome) {
	row.Outcome = string(o)
	if row.IsStream {
		row.StreamOutcome = row.Outcome
	}
	row.IsRequestSuccess = row.ResponseCode >= 200 && row.ResponseCode < 400 && o == gateway.Complete
}

// newRow returns a row with all columns except those for bodies.
func newRow(line *gateway.Line, chain string, revision int) Row {
	row := Row{
		TimeGenerated: line.Time.UTC(), RecordID: line.ID, RecordRevision: revision, CorrelationID: line.ID, ChainHash: chain,
		ApimSubscriptionID: short(line.Subscription, 256), SubscriptionName: short(line.Name, 256), KeySlot: line.KeySlot,
		ProductID: short(line.Product, 256), UserObjectID: short(line.User, 256), EndUser: short(line.EndUser, 1024),
		CallerIPAddress: line.IP, UserAgent: short(line.ClientAgent, 1024),
		Method: line.Method, URL: short(line.URL, 4096), SpecOperationID: line.Operation, OperationID: operationID(line.Operation),
		APIVersion: short(line.APIVersion, 64), DeploymentRequested: short(line.Model, 256), DeploymentUsed: line.Deployment,
		ModelName: short(line.AnsweredModel, 256), BackendRegion: line.Region, BackendAPIVersion: line.BackendAPIVersion,
		ResponseCode: line.Status, BackendResponseCode: line.BackendStatus,
		LastErrorReason: short(line.ErrorReason, 256), LastErrorMessage: short(line.ErrorMessage, 4096),
		LimitName: short(line.Limit, 256), LimitDegraded: line.LimitDegraded, AuditRelaxed: line.Relaxed, IsStream: line.Stream,
		Redactions: line.Redactions,
	}
	row.UserID = row.UserObjectID
	if row.UserID == "" {
		row.UserID = row.EndUser
	}
	if line.Surface != "" {
		row.APIID = map[bool]string{true: "azure-openai-v1", false: "azure-openai"}[line.Surface == "v1"]
	}
	if line.Region != "" {
		row.BackendID, row.BackendMethod = strings.TrimSuffix(line.Region+"/"+line.Deployment, "/"), line.Method
	}
	row.attempts(line)
	row.times(line)
	row.usage(line)
	row.sizes(line)
	row.setOutcome(line.Outcome)
	return row
}

// maxAttempts is the largest number of attempts that a row lists.
const maxAttempts = 32

func (row *Row) attempts(line *gateway.Line) {
	row.AttemptCount = len(line.Attempts)
	if row.AttemptCount == 0 {
		return
	}
	list := line.Attempts[:min(maxAttempts, len(line.Attempts))]
	if raw, err := json.Marshal(list); err == nil && len(raw) < truncate.MaxSize {
		row.Attempts = raw
	}
}

func (row *Row) times(line *gateway.Line) {
	row.TotalTime = line.TotalMilli
	if line.FirstByteMilli > 0 {
		row.FirstByteMs = new(line.FirstByteMilli)
		if line.Stream {
			row.TimeToFirstTokenMs = row.FirstByteMs
		}
	}
	if len(line.Attempts) > 0 {
		before := line.Attempts[0].Start.Sub(line.Time).Milliseconds()
		row.ClientTime = min(max(0, before), row.TotalTime)
		row.BackendTime = row.TotalTime - row.ClientTime
	} else {
		row.ClientTime = row.TotalTime
	}
}

func (row *Row) usage(line *gateway.Line) {
	u := line.Usage
	row.PromptTokens, row.CachedTokens, row.CompletionTokens = u.Prompt, u.Cached, u.Completion
	row.ReasoningTokens, row.AudioTokens, row.TotalTokens, row.TokensEstimated = u.Reasoning, u.Audio, u.Total, u.Estimated
	if line.Cost == nil {
		return
	}
	row.CostCurrency, row.PriceVersion = short(line.Cost.Currency, 16), short(line.Cost.PriceVersion, 128)
	row.CostAmount = new(float64(line.Cost.Millionths) / 1e6)
}

func (row *Row) sizes(line *gateway.Line) {
	if b := line.Request; b != nil {
		row.RequestSize, row.RequestSha256 = int(min(b.Size, math.MaxInt32)), b.SHA256
	}
	if b := line.Response; b != nil {
		row.ResponseSize, row.ResponseSha256 = int(min(b.Size, math.MaxInt32)), b.SHA256
	}
}
