// Package logs makes rows of Log Analytics from the journal's entries.
//
// One request is one row of the table GatewayLogs_CL, which is sent to the stream Custom-GatewayLogs_CL of a data
// collection rule. [Row] is the one place that declares the columns. The template, the local sink and the queries are
// checked against [Columns].
//
// Rows arrive at least once. RecordId identifies the request. RecordRevision grows with what is known of it: 0 its
// process died before the end, 1 it ended, 2 its outcome was corrected. So `summarize arg_max(RecordRevision, *) by
// RecordId` leaves each request once. TimeGenerated is the request's arrival, the same in every copy; Azure Monitor
// replaces it if it is older than two days.
//
// The service cuts values of more than 64 KB at any byte. So bodies are truncated here, inside their strings, and stay
// valid JSON. BodyUri and RequestBodyUri name the place of the whole body.
package logs

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"time"
)

// Stream is the data collection rule's stream, and Table the table it feeds.
const (
	Table  = "GatewayLogs_CL"
	Stream = "Custom-" + Table
)

// The revisions of a row.
const (
	revisionIncomplete = 0
	revisionEnd        = 1
	revisionAmend      = 2
)

// Row is one request. Its JSON names are the names of the table's columns, and its types decide their types. Names that
// Azure Monitor reserves (Type, TenantId, Id, Title, subscriptionid …) are not used.
type Row struct {
	TimeGenerated  time.Time
	RecordID       string `json:"RecordId"`
	RecordRevision int
	ChainHash      string `json:",omitempty"` // of the journal's batch that has the record
	CorrelationID  string `json:"CorrelationId"`
	Outcome        string `json:",omitempty"` // complete, refused, client-cancelled, upstream-cut, not-durable, gateway-failed; incomplete
	StreamOutcome  string `json:",omitempty"` // the same, streams only

	ApimSubscriptionID string `json:"ApimSubscriptionId,omitempty"`
	SubscriptionName   string `json:",omitempty"`
	KeySlot            string `json:",omitempty"`
	ProductID          string `json:"ProductId,omitempty"`
	UserID             string `json:"UserId,omitempty"` // the authenticated user, otherwise the one that the request names
	UserObjectID       string `json:"UserObjectId,omitempty"`
	EndUser            string `json:",omitempty"`
	CallerIPAddress    string `json:"CallerIpAddress,omitempty"`
	UserAgent          string `json:",omitempty"`

	Method          string `json:",omitempty"`
	URL             string `json:"Url,omitempty"`
	APIID           string `json:"ApiId,omitempty"`           // azure-openai or azure-openai-v1
	OperationID     string `json:"OperationId,omitempty"`     // as the classic surface names it
	SpecOperationID string `json:"SpecOperationId,omitempty"` // as the request's own surface names it
	APIVersion      string `json:"ApiVersion,omitempty"`

	DeploymentRequested string `json:",omitempty"`
	DeploymentUsed      string `json:",omitempty"`
	ModelName           string `json:",omitempty"` // as the answer names it
	BackendRegion       string `json:",omitempty"`
	BackendID           string `json:"BackendId,omitempty"` // region/deployment
	BackendMethod       string `json:",omitempty"`
	BackendAPIVersion   string `json:"BackendApiVersion,omitempty"`
	AttemptCount        int
	Attempts            json.RawMessage `json:",omitempty"`

	ResponseCode        int `json:",omitempty"`
	BackendResponseCode int `json:",omitempty"`
	IsRequestSuccess    bool
	LastErrorReason     string `json:",omitempty"`
	LastErrorMessage    string `json:",omitempty"`
	LimitName           string `json:",omitempty"`
	LimitDegraded       bool
	AuditRelaxed        bool

	IsStream           bool
	FirstByteMs        *int64 `json:",omitempty"`
	TimeToFirstTokenMs *int64 `json:",omitempty"` // streams only
	TotalTime          int64
	BackendTime        int64
	ClientTime         int64

	PromptTokens     int64
	CachedTokens     int64
	CompletionTokens int64
	ReasoningTokens  int64
	AudioTokens      int64
	TotalTokens      int64
	TokensEstimated  bool
	CostAmount       *float64 `json:",omitempty"`
	CostCurrency     string   `json:",omitempty"`
	PriceVersion     string   `json:",omitempty"`

	RequestSize         int
	ResponseSize        int
	RequestSha256       string          `json:",omitempty"`
	ResponseSha256      string          `json:",omitempty"`
	RequestBody         string          `json:",omitempty"` // of a request that was sent to no region
	ResponseBody        string          `json:",omitempty"` // the gateway's own answer to such a request
	BackendRequestBody  string          `json:",omitempty"`
	BackendResponseBody string          `json:",omitempty"`
	BodyTruncatedInRow  bool            // at least one of the bodies is not whole in this row
	BodyURI             string          `json:"BodyUri,omitempty"` // where the answer is whole
	RequestBodyURI      string          `json:"RequestBodyUri,omitempty"`
	ContentFilter       json.RawMessage `json:",omitempty"`
	Redactions          int
}

// Column is one column of the table, in Kusto's terms.
type Column struct{ Name, Type string }

// Columns returns the table's columns in the order of Row's fields.
func Columns() []Column {
	t := reflect.TypeFor[Row]()
	columns := make([]Column, t.NumField())
	for i := range columns {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			name = f.Name
		}
		columns[i] = Column{name, kustoType(f.Type)}
	}
	return columns
}

func kustoType(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t {
	case reflect.TypeFor[time.Time]():
		return "datetime"
	case reflect.TypeFor[json.RawMessage]():
		return "dynamic"
	}
	switch t.Kind() {
	case reflect.String:
		return "string"
	case reflect.Int:
		return "int"
	case reflect.Int64:
		return "long"
	case reflect.Float64:
		return "real"
	case reflect.Bool:
		return "boolean"
	default:
		panic("logs: no column type for " + t.String())
	}
}

// Encode returns the row as it is sent, without encoding/json's escapes for HTML, which would make six bytes of one.
func (row *Row) Encode() ([]byte, error) {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(row); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// classicIDs has the ids that API Management's queries use for operations that have other names on the v1 surface.
var classicIDs = map[string]string{
	"createCompletion":     "completions_create",
	"createChatCompletion": "ChatCompletions_Create",
	"createEmbedding":      "embeddings_create",
}

func operationID(spec string) string {
	if id, ok := classicIDs[spec]; ok {
		return id
	}
	return spec
}

// short cuts a text from outside to limit bytes. It is not for bodies.
func short(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit]
	}
	return strings.ToValidUTF8(s, "")
}
