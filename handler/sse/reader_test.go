package sse_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"aoaigateway/handler/sse"
)

type event struct{ Raw, Name, Data string }

func readAll(r io.Reader) (events []event, err error) {
	reader := sse.NewReader(r)
	for {
		e, err := reader.Next()
		if err != nil {
			return events, err
		}
		events = append(events, event{string(e.Raw), string(e.Name), string(e.Data)})
	}
}

func TestReaderCutsAtBlankLines(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     []event
	}{
		{"LF", "data: a\n\ndata: b\n\n", []event{{"data: a\n\n", "", "a"}, {"data: b\n\n", "", "b"}}},
		{"CRLF", "data: a\r\n\r\ndata: b\r\n\r\n", []event{{"data: a\r\n\r\n", "", "a"}, {"data: b\r\n\r\n", "", "b"}}},
		{"CR", "data: a\r\rdata: b\r\r", []event{{"data: a\r\r", "", "a"}, {"data: b\r\r", "", "b"}}},
		{"comment", ": ping\n\ndata: a\n\n", []event{{": ping\n\n", "", ""}, {"data: a\n\n", "", "a"}}},
		{"named", "event: x\ndata: a\n\n", []event{{"event: x\ndata: a\n\n", "x", "a"}}},
		{"several data fields", "data: a\ndata:b\ndata:  c\n\n", []event{{"data: a\ndata:b\ndata:  c\n\n", "", "a\nb\n c"}}},
		{"empty data", "data\n\n", []event{{"data\n\n", "", ""}}},
		{"byte order mark", "\xef\xbb\xbfdata: a\n\n", []event{{"\xef\xbb\xbfdata: a\n\n", "", "a"}}},
		{"no blank line at the end", "data: a\n\ndata: [DONE]", []event{{"data: a\n\n", "", "a"}, {"data: [DONE]", "", "[DONE]"}}},
		{"nothing", "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, r := range []io.Reader{
				strings.NewReader(c.in), iotest.OneByteReader(strings.NewReader(c.in)), iotest.DataErrReader(strings.NewReader(c.in)),
			} {
				got, err := readAll(r)
				if !errors.Is(err, io.EOF) {
					t.Fatalf("error %v, want io.EOF", err)
				}
				if d := cmp.Diff(c.want, got); d != "" {
					t.Fatal(d)
				}
			}
		})
	}
}

func TestReaderDropsHalfEvent(t *testing.T) {
	reset := errors.New("reset")
	got, err := readAll(io.MultiReader(strings.NewReader("data: a\n\ndata: ha"), iotest.ErrReader(reset)))
	if !errors.Is(err, reset) {
		t.Fatalf("error %v, want the source's", err)
	}
	if d := cmp.Diff([]event{{"data: a\n\n", "", "a"}}, got); d != "" {
		t.Fatal(d)
	}
}

func TestReaderDoesNotReadAhead(t *testing.T) {
	pr, pw := io.Pipe()
	r := sse.NewReader(pr)
	for _, want := range []string{"data: 1\n\n", "data: 2\n\n"} {
		go func() { _, _ = pw.Write([]byte(want)) }()
		e, err := r.Next()
		if err != nil || string(e.Raw) != want {
			t.Fatalf("got %q, %v", e.Raw, err)
		}
	}
}

func TestReaderBoundsEvents(t *testing.T) {
	_, err := readAll(io.MultiReader(strings.NewReader("data: "), &endless{}))
	if !errors.Is(err, sse.ErrTooLong) {
		t.Fatalf("error %v, want ErrTooLong", err)
	}
}

type endless struct{}

func (*endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// azureStreams are forms that client libraries have failed on.
var azureStreams = []string{
	// the prompt's filter results first, in a chunk without id, model or choices
	`data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0,` +
		`"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}]}` + "\n\ndata: [DONE]\n\n",
	// the asynchronous filter's chunk has no delta
	`data: {"choices":[{"content_filter_offsets":{"check_offset":44,"start_offset":44,"end_offset":198},"content_filter_results":{},` +
		`"finish_reason":null,"index":0}],"id":"","object":""}` + "\n\n",
	// usage last, without choices, in CRLF
	`data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}` + "\r\n\r\ndata:[DONE]\r\n\r\n",
	// an error in band, then silence
	"data: {\"error\":{\"message\":\"The server had an error\",\"type\":\"server_error\",\"param\":null,\"code\":null}}\n\n",
	// named events, a comment between them, a last one cut off
	"event: response.created\ndata: {\"type\":\"response.created\"}\n\n: keep-alive\n\nevent: response.output_text.delta\ndata: " +
		"{\"type\":\"resp",
	// a body that is no stream at all
	`{"error":{"code":"429","message":"slow down"}}`,
}

// Any split of the bytes gives the same events, and the events are the bytes.
func FuzzReader(f *testing.F) {
	f.Add([]byte("data: a\r\n\r\n: c\n\nevent: x\rdata: b\r\rdata: [DONE]\n\n"), 3)
	f.Add([]byte("\n\n\r\r\n\r"), 1)
	for i, stream := range azureStreams {
		f.Add([]byte(stream), i)
	}
	f.Fuzz(func(t *testing.T, in []byte, size int) {
		whole, err := readAll(bytes.NewReader(in))
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		split, err := readAll(&pieces{in, max(1, size%17)})
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if d := cmp.Diff(whole, split); d != "" {
			t.Fatal(d)
		}
		var all strings.Builder
		for _, e := range split {
			all.WriteString(e.Raw)
		}
		if all.String() != string(in) {
			t.Fatalf("events are %q, stream was %q", all.String(), in)
		}
	})
}

type pieces struct {
	b []byte
	n int
}

func (p *pieces) Read(to []byte) (int, error) {
	if len(p.b) == 0 {
		return 0, io.EOF
	}
	n := copy(to[:min(len(to), p.n)], p.b)
	p.b = p.b[n:]
	return n, nil
}

func BenchmarkNext(b *testing.B) {
	chunk := []byte(
		`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o","choices":[{"index":0,` +
			`"delta":{"content":"hello"},"finish_reason":null}]}` + "\n\n",
	)
	r := sse.NewReader(&repeat{chunk: chunk})
	for b.Loop() {
		if _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
	}
}

type repeat struct {
	chunk []byte
	at    int
}

func (r *repeat) Read(p []byte) (int, error) {
	n := copy(p, r.chunk[r.at:])
	r.at = (r.at + n) % len(r.chunk)
	return n, nil
}
