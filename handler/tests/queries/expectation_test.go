package queries_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"aoaigateway/handler/assemble"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/logs"
)

// expectation is a set of rows as a journal may produce them, with the sums that queries
// must return.
type expectation struct {
	maker logs.Mapper
	rows  []logs.Row // as they arrive: with several revisions and copies of the same record

	tokens   map[key]sums // in chat and completions that were answered with 200
	prompts  int          // number of these requests and of refused requests of the same operations
	requests int
	last     gateway.Line
}

func newExpectation(t *testing.T) *expectation {
	t.Helper()
	b := &expectation{maker: logs.Mapper{BodyURL: "https://x/audit", Open: func(context.Context, string) (io.ReadCloser, error) {
		return nil,
			os.ErrNotExist
	}}, tokens: map[key]sums{}}
	kinds := []func(*gateway.Line){
		nil, streamed("stream", true), streamed(strings.Repeat("long stream ", 20_000), true),
		streamed("no usage", false), huge, inBlob, failedOver, refused,
	}
	operations := []string{
		"ChatCompletions_Create", "createChatCompletion", "completions_create", "createCompletion", "embeddings_create",
		"createEmbedding",
	}
	i := 0
	for _, kind := range kinds {
		for _, operation := range operations {
			b.exchange(t, i, operation, kind)
			i++
		}
	}
	for ; i < 60; i++ { // records with an end, an amend and an earlier incomplete line, whose rows arrive several times
		b.exchange(t, i, "createChatCompletion", nil)
		amended, dead := b.last, b.last
		amended.Type, amended.Outcome = gateway.Amend, gateway.NotDurable
		dead.Type = gateway.Incomplete
		b.line(amended, 2)
		b.line(dead, 1)
	}
	for n := range 5 { // records that have only an incomplete line
		b.line(gateway.Line{Type: gateway.Incomplete, Record: gateway.Record{
			ID: fmt.Sprint("dead-", n), Time: time.Now().UTC(), Operation: "ChatCompletions_Create", Caller: gateway.Caller{IP: "198.51.100.1"},
			Request: &gateway.Body{Size: 2, JSON: json.RawMessage("{}")},
		}}, 2)
	}
	return b
}

type key struct{ ip, model string }

type sums struct{ prompt, completion, total, calls int64 }

func (b *expectation) line(l gateway.Line, copies int) {
	row, ok := b.maker.Row(context.Background(), gateway.Entry{Line: l, File: "f", Chain: "chain"})
	for range copies {
		if ok {
			b.rows = append(b.rows, row)
		}
	}
}

// exchange adds one request with the given answer.
func (b *expectation) exchange(t *testing.T, i int, operation string, change func(*gateway.Line)) {
	t.Helper()
	models := []string{"gpt-4o-2024-11-20", "gpt-35-turbo-instruct", "text-embedding-3-small"}
	users := []string{"198.51.100.1", "198.51.100.2", "2001:db8::3"}
	k := key{users[i%3], models[i%2]}
	if strings.Contains(strings.ToLower(operation), "embedding") {
		k.model = models[2]
	}
	u := gateway.Usage{
		Prompt: int64(10 + i), Cached: int64(i % 5), Completion: int64(3*i + 1), Reasoning: int64(i % 2),
		Total: int64(11 + 4*i),
	}
	at := time.Now().Add(-time.Duration(i) * time.Minute).UTC()
	rec := gateway.Record{
		ID: fmt.Sprintf("rec-%03d", i), Time: at, Caller: gateway.Caller{
			Subscription: fmt.Sprint("sub-", i%4), Name: "team", Product: "default",
			IP: k.ip,
		},
		Method: "POST", URL: "/openai/x", Operation: operation, Surface: "classic", Model: "chat", APIVersion: "2024-10-21",
		EndUser: fmt.Sprint("user-", i%2),
	}
	prompt := fmt.Sprintf(`{"messages":[{"role":"user","content":"question %d"}]}`, i)
	end := gateway.Line{Type: gateway.End, Record: rec}
	end.Request = &gateway.Body{Size: int64(len(prompt)), SHA256: "aa", ContentType: "application/json", JSON: json.RawMessage(prompt)}
	end.Region, end.Deployment, end.AnsweredModel = []string{"eastus2", "swedencentral"}[i%2], "d", k.model
	end.Attempts = []gateway.Attempt{{Region: end.Region, Start: at, Millis: 20, Status: 200}}
	end.Usage, end.Status, end.BackendStatus, end.Outcome = u, 200, 200, gateway.Complete
	end.FirstByteMilli, end.TotalMilli = 20, 40
	end.Cost = &gateway.Cost{Millionths: 250_000, Currency: "USD", PriceVersion: "1"}
	answer := fmt.Sprintf(`{"id":"c-%d","object":"chat.completion","model":%q,"choices":[{"index":0,"text":"answer %d",`+
		`"message":{"role":"assistant","content":"answer %d"}}],"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}`,
		i, k.model, i, i, u.Prompt, u.Completion, u.Total)
	end.Response = &gateway.Body{Size: int64(len(answer)), SHA256: "bb", ContentType: "application/json", JSON: json.RawMessage(answer)}
	if change != nil {
		change(&end)
	}
	b.line(end, 1+i%3)
	b.last = end
	b.count(k, end.Status, u)
}

// count adds one request to the expected sums.
func (b *expectation) count(k key, status int, u gateway.Usage) {
	b.requests++
	id := b.rows[len(b.rows)-1].OperationID
	if id != "completions_create" && id != "ChatCompletions_Create" {
		return
	}
	b.prompts++
	if status == 200 {
		s := b.tokens[k]
		b.tokens[k] = sums{s.prompt + u.Prompt, s.completion + u.Completion, s.total + u.Total, s.calls + 1}
	}
}

// streamed makes the answer a stream with these chunks.
func streamed(text string, usage bool) func(*gateway.Line) {
	return func(l *gateway.Line) {
		a := assemble.New(assemble.Chat)
		for _, part := range []string{text, " and", " so on"} {
			a.Event(fmt.Appendf(nil, `{"id":"c","object":"chat.completion.chunk","model":%q,"choices":[{"index":0,"delta":{"content":%q}}],`+
				`"usage":null}`, l.AnsweredModel, part))
		}
		if usage {
			a.Event(fmt.Appendf(nil, `{"id":"c","object":"chat.completion.chunk","model":%q,"choices":[],"usage":{"prompt_tokens":%d,`+
				`"completion_tokens":%d,"total_tokens":%d}}`,
				l.AnsweredModel, l.Usage.Prompt, l.Usage.Completion, l.Usage.Total))
		} else {
			l.Usage.Estimated = true
		}
		l.Stream = true
		l.Response = &gateway.Body{Size: 9, SHA256: "cc", ContentType: "text/event-stream", Assembled: a.Object()}
	}
}

func huge(l *gateway.Line) {
	l.Response.JSON = []byte(strings.Replace(string(l.Response.JSON), `"text":"`, `"text":"`+strings.Repeat(`long \"text\" `, 40_000), 1))
}

// inBlob makes the answer a blob that cannot be read.
func inBlob(l *gateway.Line) {
	l.Response.JSON, l.Response.Blob, l.Response.Size = nil, "bodies/"+l.ID+"/response", 5<<20
}

func refused(l *gateway.Line) {
	l.Status, l.Outcome, l.Attempts, l.Region, l.Deployment, l.AnsweredModel = 429, gateway.Refused, nil, "", "", ""
	l.Usage, l.Cost, l.ErrorReason, l.Limit = gateway.Usage{}, nil, "RateLimitExceeded", "tokens per minute"
	l.Response.JSON = json.RawMessage(`{"statusCode":429,"message":"Rate limit is exceeded."}`)
}

func failedOver(l *gateway.Line) {
	l.Attempts = append([]gateway.Attempt{{Region: "francecentral", Start: l.Time, Millis: 4, Status: 429, Reason: "throttled"}},
		l.Attempts...)
}

// newest returns the newest revision of each record's row.
func (b *expectation) newest() map[string]logs.Row {
	seen := map[string]logs.Row{}
	for _, row := range b.rows {
		if have, ok := seen[row.RecordID]; !ok || row.RecordRevision > have.RecordRevision {
			seen[row.RecordID] = row
		}
	}
	return seen
}
