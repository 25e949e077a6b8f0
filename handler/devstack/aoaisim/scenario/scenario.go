// Package scenario reads the files that say what a simulated region answers in one case. A
// file is one HTTP answer as it is on the wire, with a few lines between that say when and
// how it is sent:
//
//	# What the case is.
//	# Source: owner/repository#number (recorded)
//	@billed none
//	HTTP/1.1 200 OK
//	Content-Type: text/event-stream; charset=utf-8
//
//	event: response.created
//	data: {"type":"response.created","sequence_number":{{.Seq}}}
//
//	@wait 30s
//	@answer
//
// Lines with @ are steps; Do lists them. The rest is text in the form of text/template; the
// data is the region's (its methods and fields are listed in aoaisim). In streams each event
// is sent by itself. A header without a value removes the header that the region would send.
//
// The files lie in files/API/CASE.http. A file CASE.stream.http is used instead for streams.
package scenario

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/template"
	"time"
)

//go:embed files
var files embed.FS

// Do is what a step does.
type Do string

// The steps. Every step but Send stands in a file with its name.
const (
	Send    Do = "send"    // sends Text
	Wait    Do = "wait"    // waits for a time; before the status line: before the headers
	Repeat  Do = "repeat"  // sends the next text N times more, each after a time
	Answer  Do = "answer"  // sends the next N events of the ordinary answer, or all that are left
	Silence Do = "silence" // sends nothing until the client leaves or the faults are cleared
	Reset   Do = "reset"   // resets the connection, over HTTP/2 the stream
	Close   Do = "close"   // closes the connection before the body's end
	RST     Do = "rst"     // ends the stream with RST_STREAM and the code N; over HTTP/1.1 as Reset
	GoAway  Do = "goaway"  // sends GOAWAY with the code N; over HTTP/1.1 nothing
	Stall   Do = "stall"   // the connection with all its streams transfers nothing any more
)

var steps = []Do{Wait, Repeat, Answer, Silence, Reset, Close, RST, GoAway, Stall}

// Step is one thing that a region does.
type Step struct {
	Do   Do
	Text *template.Template
	Time time.Duration
	N    int
}

// Field is one header.
type Field struct {
	Name  string
	Value *template.Template
}

// Scenario is what a region answers in one case.
type Scenario struct {
	Name   string
	About  string // the comments
	Billed string // none, prompt, answer or usage as JSON; empty = answer for good statuses, otherwise none
	Before time.Duration
	Status int
	Reason string
	Header []Field
	Steps  []Step
	Stream bool
}

var all = sync.OnceValues(func() (map[string]*Scenario, error) {
	found := map[string]*Scenario{}
	err := fs.WalkDir(files, "files", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := files.ReadFile(path)
		if err != nil {
			return err
		}
		name := strings.TrimSuffix(strings.TrimPrefix(path, "files/"), ".http")
		s, err := parse(name, string(text))
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		found[name] = s
		return nil
	})
	return found, err
})

// Find returns the scenario of a case. The case may name its API, as in "error/wrong-key";
// otherwise the files of api are searched, and then those for any API. It returns nil if
// there is none.
func Find(name, api string, stream bool) *Scenario {
	found, err := all()
	if err != nil {
		panic(err) // the files are a part of the program, and its tests read each of them
	}
	names := []string{name}
	if !strings.Contains(name, "/") {
		names = []string{api + "/" + name, "any/" + name}
	}
	for _, n := range names {
		if s := found[n+".stream"]; s != nil && stream {
			return s
		}
		if s := found[n]; s != nil {
			return s
		}
	}
	return nil
}

// Names returns the names of all scenarios, in order.
func Names() ([]string, error) {
	found, err := all()
	return slices.Sorted(maps.Keys(found)), err
}

// Known reports whether a case exists for at least one API.
func Known(name string) bool {
	found, err := all()
	for full := range found {
		full = strings.TrimSuffix(full, ".stream")
		if _, short, _ := strings.Cut(full, "/"); err == nil && (full == name || short == name) {
			return true
		}
	}
	return false
}

func parse(name, text string) (*Scenario, error) {
	s := &Scenario{Name: name}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	n, err := s.head(lines)
	if err != nil {
		return nil, err
	}
	return s, s.body(lines[n:])
}

// head reads up to the blank line after the headers. It returns the number of lines read.
func (s *Scenario) head(lines []string) (int, error) {
	for i, line := range lines {
		var err error
		name, value, _ := strings.Cut(line, ":")
		switch {
		case strings.HasPrefix(line, "#"):
			s.About += strings.TrimSpace(line[1:]) + "\n"
		case strings.HasPrefix(line, "@billed "):
			s.Billed = strings.TrimPrefix(line, "@billed ")
			if s.Billed != "none" && s.Billed != "prompt" && s.Billed != "answer" && !json.Valid([]byte(s.Billed)) {
				err = errors.New("@billed must be none, prompt, answer or usage as JSON")
			}
		case strings.HasPrefix(line, "@wait "):
			s.Before, err = time.ParseDuration(strings.TrimPrefix(line, "@wait "))
		case strings.HasPrefix(line, "HTTP/1.1 "):
			var code string
			code, s.Reason, _ = strings.Cut(strings.TrimPrefix(line, "HTTP/1.1 "), " ")
			s.Status, err = strconv.Atoi(code)
		case line == "" && s.Status != 0:
			return i + 1, nil
		case s.Status == 0 || name == line:
			err = errors.New("this line is no comment, step, status line or header")
		default:
			err = s.field(name, strings.TrimSpace(value))
		}
		if err != nil {
			return 0, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	if s.Status == 0 {
		return 0, errors.New("there is no status line")
	}
	return len(lines), nil
}

func (s *Scenario) field(name, value string) error {
	t, err := template.New(name).Parse(value)
	s.Header = append(s.Header, Field{name, t})
	s.Stream = s.Stream || strings.EqualFold(name, "Content-Type") && strings.HasPrefix(value, "text/event-stream")
	return err
}

// body reads the steps. In a stream each event is a step, with the blank line that ends it.
func (s *Scenario) body(lines []string) error {
	var text []string
	send := func() error {
		if len(text) == 0 {
			return nil
		}
		piece := strings.Join(text, "\n")
		if s.Stream {
			piece += "\n\n"
		}
		t, err := template.New(s.Name).Parse(piece)
		text, s.Steps = nil, append(s.Steps, Step{Do: Send, Text: t})
		return err
	}
	for _, line := range lines {
		var err error
		switch {
		case strings.HasPrefix(line, "@"):
			var step Step
			step, err = parseStep(line[1:])
			err = errors.Join(send(), err)
			s.Steps = append(s.Steps, step)
		case s.Stream && line == "":
			err = send()
		default:
			text = append(text, line)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
	}
	return send()
}

// parseStep reads a step: its name, and behind it a number, a time or both.
func parseStep(line string) (Step, error) {
	words := strings.Fields(line)
	if len(words) == 0 || !slices.Contains(steps, Do(words[0])) {
		return Step{}, fmt.Errorf("the step is not one of %v", steps)
	}
	s := Step{Do: Do(words[0])}
	for _, word := range words[1:] {
		n, err := strconv.Atoi(word)
		if err == nil {
			s.N = n
		} else if s.Time, err = time.ParseDuration(word); err != nil {
			return Step{}, err
		}
	}
	return s, nil
}
