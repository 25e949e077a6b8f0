package logs

import (
	"encoding/json"
	"io"
	"math"
	"strconv"
	"strings"

	"aoaigateway/handler/gateway"
)

// The bounds of what Rows remembers: bytes of the requests of open begins, and the ended
// rows that an amend may still correct, of which the oldest lose their bodies first.
const (
	maxHeld       = 32 << 20
	heldShort     = 8_000 // a request's share once half of maxHeld is used
	maxEnded      = 8_192
	maxEndedBytes = 16 << 20
)

// Rows makes rows of one process's lines, fed in the order of its journal. An end record
// repeats what its begin had but for the request's content, so a reader that starts in the
// middle loses that content only. Memory is bounded: some 50 MiB with any number of open
// requests of any size. Not safe for concurrent use.
type Rows struct {
	// BodyURL is where the blobs of large bodies are, such as
	// https://<account>.blob.core.windows.net/audit; their names are appended.
	BodyURL string
	// File is the journal's file that the next lines stand in; it may change between lines.
	// It is what a shortened body that has no blob of its own is pointed to.
	File string
	// Open reads a body's blob, so that the row has it shortened; nil or an error leaves a
	// note of its size and hash, with the record's own usage.
	Open func(name string) (io.ReadCloser, error)

	begun map[string]begun
	held  int
	ended map[string]*Row
	order []string // of ended, oldest first
	full  int      // of order, up to where bodies are dropped
	bytes int      // of the bodies in ended
}

// begun is what is kept of a begin for its end.
type begun struct {
	request content
	uri     string
}

// Add takes the next line. chain is the hash of the member it stands in. A begin makes no
// row; an end and an incomplete make one each; an amend makes its end's again.
func (r *Rows) Add(line gateway.Line, chain string) (Row, bool) {
	if r.begun == nil {
		r.begun, r.ended = map[string]begun{}, map[string]*Row{}
	}
	switch line.Type {
	case gateway.Begin:
		r.begin(&line)
		return Row{}, false
	case gateway.End:
		row := r.row(&line, chain)
		row.RecordRevision = revisionEnd
		r.finish(&line, &row)
		r.remember(&row)
		return row, true
	case gateway.Incomplete:
		row := r.incomplete(&line, chain)
		return row, true
	case gateway.Amend:
		return r.amend(&line, chain)
	default:
		return Row{}, false
	}
}

// Waiting is how many begins wait for their end.
func (r *Rows) Waiting() int { return len(r.begun) }

func (r *Rows) begin(line *gateway.Line) {
	if line.Request == nil {
		return
	}
	r.forget(line.ID)
	limit := maxValue
	if r.held > maxHeld/2 {
		limit = heldShort
	}
	b := begun{}
	b.request, b.uri = r.request(line, limit)
	if size := len(b.request.text); r.held+size > maxHeld {
		b.request = describe(line.Request, "The request is in the journal; too many were open for it to be here.")
	}
	r.held += len(b.request.text)
	r.begun[line.ID] = b
}

func (r *Rows) forget(id string) {
	r.held -= len(r.begun[id].request.text)
	delete(r.begun, id)
}

// request is the row's request and where it is whole.
func (r *Rows) request(line *gateway.Line, limit int) (content, string) {
	b := line.Request
	c, ok := r.content(b, limit)
	if !ok {
		c = note{
			Model: short(line.Model, 256), ContentType: short(b.ContentType, 256), Size: b.Size, SHA256: b.SHA256, Note: absent(b),
		}.content()
	}
	return c, r.uri(b, c)
}

func absent(b *gateway.Body) string {
	if b.Blob != "" {
		return "The body is in " + b.Blob + "."
	}
	return "The body is not kept here."
}

// content is a body from its record or from its blob.
func (r *Rows) content(b *gateway.Body, limit int) (content, bool) {
	if c, ok := contentOf(b, limit); ok {
		if b.Blob != "" {
			c.whole = c.whole && len(b.Assembled) > 0
		}
		return c, true
	}
	if b.Blob == "" || r.Open == nil || !strings.Contains(b.ContentType, "json") {
		return content{}, false
	}
	blob, err := r.Open(b.Blob)
	if err != nil {
		return content{}, false
	}
	defer func() { _ = blob.Close() }()
	value, err := condense(blob)
	if err != nil {
		return content{}, false
	}
	c, ok := shortened(value, limit)
	c.whole = false
	return c, ok
}

// uri is where a body that is not whole in its row is.
func (r *Rows) uri(b *gateway.Body, c content) string {
	switch {
	case b.Blob != "":
		return r.url(b.Blob)
	case !c.whole && hasContent(b) && r.File != "":
		return r.url(r.File)
	default:
		return ""
	}
}

func hasContent(b *gateway.Body) bool {
	return len(b.JSON)+len(b.Text)+len(b.Base64)+len(b.Assembled) > 0
}

func (r *Rows) url(name string) string {
	if r.BodyURL == "" {
		return name
	}
	return r.BodyURL + "/" + name
}

// finish gives an end's row its bodies.
func (r *Rows) finish(line *gateway.Line, row *Row) {
	request := content{whole: true}
	if line.Request != nil {
		request, row.RequestBodyUri = r.joined(line)
	}
	response := content{whole: true}
	if line.Response != nil {
		response = r.response(line, row)
	}
	row.BodyTruncatedInRow = !request.whole || !response.whole
	if row.AttemptCount == 0 {
		row.RequestBody, row.ResponseBody = request.text, response.text
	} else {
		row.BackendRequestBody, row.BackendResponseBody = request.text, response.text
	}
	row.ContentFilter = contentFilter(line.Response)
}

// joined is the request of the begin, or of the end when that carries it itself.
func (r *Rows) joined(line *gateway.Line) (content, string) {
	b, ok := r.begun[line.ID]
	r.forget(line.ID)
	if ok && !hasContent(line.Request) {
		return b.request, b.uri
	}
	return r.request(line, maxValue)
}

func (r *Rows) response(line *gateway.Line, row *Row) content {
	b := *line.Response
	if len(b.Assembled) > 0 {
		b.Assembled = withUsage(b.Assembled, row.OperationId, line.Usage)
	}
	c, ok := r.content(&b, maxValue)
	if !ok {
		n := note{ContentType: short(b.ContentType, 256), Size: b.Size, SHA256: b.SHA256, Note: absent(&b)}
		if line.Usage != (gateway.Usage{}) {
			n.Object, n.Model, n.Usage = objects[row.OperationId], row.ModelName, usageJSON(row.OperationId, line.Usage)
		}
		c = n.content()
	}
	row.BodyUri = r.uri(&b, c)
	return c
}

func (r *Rows) incomplete(line *gateway.Line, chain string) Row {
	line.Usage, line.Cost, line.Response = gateway.Usage{}, nil, nil
	line.Outcome = gateway.Outcome(gateway.Incomplete)
	row := r.row(line, chain)
	row.RecordRevision = revisionIncomplete
	request, known := content{whole: true}, false
	if line.Request != nil {
		request, row.RequestBodyUri = r.joined(line)
	} else if b, ok := r.begun[line.ID]; ok {
		request, row.RequestBodyUri, known = b.request, b.uri, true
	}
	if known {
		r.forget(line.ID)
	}
	row.BackendRequestBody, row.BodyTruncatedInRow = request.text, !request.whole
	return row
}

// remember keeps an ended row for an amend.
func (r *Rows) remember(row *Row) {
	if _, again := r.ended[row.RecordId]; !again {
		r.order = append(r.order, row.RecordId)
	} else {
		r.bytes -= bodyBytes(r.ended[row.RecordId])
	}
	r.ended[row.RecordId] = row
	r.bytes += bodyBytes(row)
	for ; r.bytes > maxEndedBytes && r.full < len(r.order); r.full++ {
		r.strip(r.order[r.full])
	}
	for len(r.order) > maxEnded {
		r.bytes -= bodyBytes(r.ended[r.order[0]])
		delete(r.ended, r.order[0])
		r.order, r.full = r.order[1:], max(0, r.full-1)
	}
}

func bodyBytes(row *Row) int {
	return len(row.RequestBody) + len(row.ResponseBody) + len(row.BackendRequestBody) + len(row.BackendResponseBody)
}

// strip takes a remembered row's bodies but for what queries read of them.
func (r *Rows) strip(id string) {
	row := r.ended[id]
	r.bytes -= bodyBytes(row)
	usage := gateway.Usage{
		Prompt: row.PromptTokens, Cached: row.CachedTokens, Completion: row.CompletionTokens, Reasoning: row.ReasoningTokens,
		Audio: row.AudioTokens, Total: row.TotalTokens, Estimated: row.TokensEstimated,
	}
	row.RequestBody, row.ResponseBody, row.BackendRequestBody, row.BackendResponseBody = "", "", "", ""
	if usage != (gateway.Usage{}) {
		row.BackendResponseBody = note{
			Object: objects[row.OperationId], Model: row.ModelName, Usage: usageJSON(row.OperationId, usage),
			Size: int64(row.ResponseSize), SHA256: row.ResponseSha256, Note: "The bodies are in the row's first revision.",
		}.content().text
	}
	row.BodyTruncatedInRow = true
	r.bytes += bodyBytes(row)
}

func (r *Rows) amend(line *gateway.Line, chain string) (Row, bool) {
	ended, ok := r.ended[line.ID]
	if !ok {
		return Row{}, false
	}
	row := *ended
	row.RecordRevision, row.ChainHash = revisionAmend, chain
	row.setOutcome(line.Outcome)
	r.ended[line.ID] = &row
	return row, true
}

func (row *Row) setOutcome(o gateway.Outcome) {
	row.Outcome = string(o)
	if row.IsStream {
		row.StreamOutcome = row.Outcome
	}
	row.IsRequestSuccess = row.ResponseCode >= 200 && row.ResponseCode < 400 && o == gateway.Complete
}

// row is everything but the bodies.
func (r *Rows) row(line *gateway.Line, chain string) Row {
	row := Row{
		TimeGenerated: line.Time.UTC(), RecordId: line.ID, CorrelationId: line.ID, ChainHash: chain,
		ApimSubscriptionId: short(line.Subscription, 256), SubscriptionName: short(line.Name, 256), KeySlot: line.KeySlot,
		ProductId: short(line.Product, 256), UserObjectId: short(line.User, 256), EndUser: short(line.EndUser, 1024),
		CallerIpAddress: line.IP, UserAgent: short(line.ClientAgent, 1024),
		Method: line.Method, Url: short(line.URL, 4096), SpecOperationId: line.Operation, OperationId: operationID(line.Operation),
		ApiVersion: short(line.APIVersion, 64), DeploymentRequested: short(line.Model, 256), DeploymentUsed: line.Deployment,
		ModelName: short(line.AnsweredModel, 256), BackendRegion: line.Region, BackendApiVersion: line.BackendAPIVersion,
		ResponseCode: line.Status, BackendResponseCode: line.BackendStatus,
		LastErrorReason: short(line.ErrorReason, 256), LastErrorMessage: short(line.ErrorMessage, 4096),
		LimitName: short(line.Limit, 256), LimitUnsure: line.LimitUnsure, AuditRelaxed: line.Relaxed, IsStream: line.Stream,
	}
	row.UserId = row.UserObjectId
	if row.UserId == "" {
		row.UserId = row.EndUser
	}
	if line.Surface != "" {
		row.ApiId = map[bool]string{true: "azure-openai-v1", false: "azure-openai"}[line.Surface == "v1"]
	}
	if line.Region != "" {
		row.BackendId, row.BackendMethod = strings.TrimSuffix(line.Region+"/"+line.Deployment, "/"), line.Method
	}
	row.attempts(line)
	row.times(line)
	row.usage(line)
	row.sizes(line)
	row.setOutcome(line.Outcome)
	return row
}

// maxAttempts are the attempts that a row lists.
const maxAttempts = 32

func (row *Row) attempts(line *gateway.Line) {
	row.AttemptCount = len(line.Attempts)
	if row.AttemptCount == 0 {
		return
	}
	list := line.Attempts[:min(maxAttempts, len(line.Attempts))]
	if raw, err := json.Marshal(list); err == nil && len(raw) < maxValue {
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
	if v, err := strconv.ParseFloat(line.Cost.Amount, 64); err == nil {
		row.CostAmount = &v
	}
}

func (row *Row) sizes(line *gateway.Line) {
	if b := line.Request; b != nil {
		row.RequestSize, row.RequestSha256 = int(min(b.Size, math.MaxInt32)), b.SHA256
	}
	if b := line.Response; b != nil {
		row.ResponseSize, row.ResponseSha256 = int(min(b.Size, math.MaxInt32)), b.SHA256
	}
}
