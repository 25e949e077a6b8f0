package aoaisim_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"aoaigateway/handler/devstack/aoaisim"
)

// fact is something that Azure OpenAI was seen to do, or is documented to do. Its test shows
// that a region does it too.
type fact struct {
	id     string // section and number of the list of facts
	fact   string
	source string // public source, and its grade: recorded, reported, documented or concluded
	o      aoaisim.Options
	secure bool // the region serves TLS with HTTP/2
	test   func(c *client)
	no     string // why the fact cannot matter to a gateway, or cannot be shown; instead of test
}

// facts lists all facts, by section.
var facts = slices.Concat(
	requestFacts, errorFacts, headerFacts, answerFacts, filterFacts, responsesFacts, storedFacts, wireFacts, limitFacts,
)

func TestConformance(t *testing.T) {
	shown, excused := 0, 0
	for _, f := range facts {
		t.Run(f.id, func(t *testing.T) {
			if (f.test == nil) == (f.no == "") || f.fact == "" || f.source == "" && f.no == "" {
				t.Fatal("a fact needs words, a source, and either a test or a reason")
			}
			if f.test == nil {
				excused++
				return
			}
			shown++
			f.o.Wire.Plain = !f.secure
			inBubble(t, f.o, f.test)
		})
	}
	t.Logf("%d facts are shown, %d have a reason why not", shown, excused)
}

func TestFactNumbers(t *testing.T) {
	sections := map[string]int{"1": 15, "2": 39, "3": 13, "4": 28, "5": 12, "6": 6, "7": 11}
	seen := map[string]bool{}
	count := map[string]int{}
	for _, f := range facts {
		if seen[f.id] {
			t.Errorf("%s stands twice", f.id)
		}
		seen[f.id] = true
		section, _, _ := strings.Cut(f.id, ".")
		count[section]++
	}
	for section, n := range sections {
		if count[section] != n {
			t.Errorf("section %s has %d facts, want %d", section, count[section], n)
		}
	}
}

// The paths of requests, and the beginnings of bodies.
const (
	chatAt     = "/openai/deployments/chat/chat/completions?api-version=2024-10-21"
	chatV1     = "/openai/v1/chat/completions"
	responseAt = "/openai/v1/responses"
	chatBody   = `{"messages":[{"role":"user","content":"hi [tokens:6]"}]}`
	chatStream = `{"messages":[{"role":"user","content":"hi [tokens:20]"}],"stream":true,"stream_options":{"include_usage":true}}`
	respBody   = `{"model":"chat","input":"hi [tokens:6]"}`
	respStream = `{"model":"chat","input":"hi [tokens:20]","stream":true}`
)

// says sends a request and checks the answer.
func says(path, body string, status int, texts ...string) func(c *client) {
	return func(c *client) {
		c.t.Helper()
		c.want(c.send(http.MethodPost, path, body), status, texts...)
	}
}

// plays is says with a scenario in force.
func plays(scenario, path, body string, status int, texts ...string) func(c *client) {
	return func(c *client) {
		c.t.Helper()
		c.want(c.play(scenario, path, body), status, texts...)
	}
}

// all joins tests.
func all(tests ...func(c *client)) func(c *client) {
	return func(c *client) {
		for _, test := range tests {
			test(c)
		}
	}
}

// switches are options with these switches.
func switches(s aoaisim.Switches) aoaisim.Options { return aoaisim.Options{Switches: s} }

// many repeats a text n times, separated by commas.
func many(n int, text string) string {
	return strings.TrimSuffix(strings.Repeat(text+",", n), ",")
}

// message is a chat request with these parts.
func message(parts string) string { return `{"messages":[{"role":"user","content":[` + parts + `]}]}` }
