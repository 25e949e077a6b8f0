// Package logs makes rows for Log Analytics from the journal's entries.
package logs

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"time"
)

// Stream is the stream of the data collection rule, and Table the table that it fills.
const (
	Table  = "GatewayLogs_CL"
	Stream = "Custom-" + Table
)

// The values of RecordRevision.
const (
	revisionIncomplete = 0
	revisionEnd        = 1
	revisionAmend      = 2
)

// Row is one request. Its JSON names are the names of the columns, and the types of its
// fields determine the types of the columns. It must not use names that Azure Monitor
// reserves (Type, TenantId, Id, Title, subscriptionid …).
type Row struct {
	TimeGenerated  time.Time
	RecordID       string `json:"RecordId"`
	RecordRevision int
	ChainHash      string `json:",omitempty"` // hash of the journal's batch that contains the record
	CorrelationID  string `json:"CorrelationId"`
	Outcome        string `json:",omitempty"` // complete, refused, client-cancelled, upstream-cut, not-durable, gateway-failed; incomplete
	StreamOutcome  string `json:",omitempty"` // the same values, but only for streams

	ApimSubscriptionID string `json:"ApimSubscriptionId,omitempty"`
	SubscriptionName   string `json:",omitempty"`
	KeySlot            string `json:",omitempty"`
	ProductID          string `json:"ProductId,omitempty"`
	UserID             string `json:"UserId,omitempty"` // the authenticated user; if there is none, the user that the request names
	UserObjectID       string `json:"UserObjectId,omitempty"`
	EndUser            string `json:",omitempty"`
	CallerIPAddress    string `json:"CallerIpAddress,omitempty"`
	UserAgent          string `json:",omitempty"`

	Method          string `json:",omitempty"`
	URL             string `json:"Url,omitempty"`
	APIID           string `json:"ApiId,omitempty"`           // azure-openai or azure-openai-v1
	OperationID     string `json:"OperationId,omitempty"`     // name of the operation on the classic surface
	SpecOperationID string `json:"SpecOperationId,omitempty"` // name of the operation on the surface that the request used
	APIVersion      string `json:"ApiVersion,omitempty"`

	DeploymentRequested string `json:",omitempty"`
	DeploymentUsed      string `json:",omitempty"`
	ModelName           string `json:",omitempty"` // the model that the answer names
	BackendRegion       string `json:",omitempty"`
	BackendID           string `json:"BackendId,omitempty"` // region/deployment that answered
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
	TimeToFirstTokenMs *int64 `json:",omitempty"` // only for streams
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
	RequestBody         string          `json:",omitempty"` // only if the request was sent to no region
	ResponseBody        string          `json:",omitempty"` // the gateway's own answer to such a request
	BackendRequestBody  string          `json:",omitempty"`
	BackendResponseBody string          `json:",omitempty"`
	BodyTruncatedInRow  bool            // at least one of the bodies is not complete in this row
	BodyURI             string          `json:"BodyUri,omitempty"` // URL of the complete answer
	RequestBodyURI      string          `json:"RequestBodyUri,omitempty"`
	ContentFilter       json.RawMessage `json:",omitempty"`
	Redactions          int
}

// Column is one column of the table. Type is a type of Kusto.
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

// Encode returns the row as JSON. It writes <, > and & unescaped, because encoding/json's
// escapes would need six bytes each.
func (row *Row) Encode() ([]byte, error) {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(row); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// classicIDs are the ids that API Management's queries use, for operations that have other
// ids on the v1 surface.
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

// short cuts text that comes from outside to limit bytes. It must not be used for bodies,
// because it does not keep JSON valid.
func short(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit]
	}
	return strings.ToValidUTF8(s, "")
}
