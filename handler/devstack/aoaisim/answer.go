package aoaisim

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"time"
)

// Usage is the number of tokens of one answer, with the names of the chat API.
type Usage struct {
	Prompt     int64 `json:"prompt"`
	Cached     int64 `json:"cached"`
	Completion int64 `json:"completion"` // including Reasoning
	Reasoning  int64 `json:"reasoning"`
	Total      int64 `json:"total"`
}

func (u *Usage) add(v Usage) {
	u.Prompt += v.Prompt
	u.Cached += v.Cached
	u.Completion += v.Completion
	u.Reasoning += v.Reasoning
	u.Total += v.Total
}

// answer is the output of the simulated model, before it is rendered for an operation.
type answer struct {
	words   [][]string // one list of words for each choice; one word is one token
	finish  string     // stop or length
	usage   Usage
	id      string // 32 digits
	flag    string // 00, or 01 if the response is not stored
	created int64
}

var vocabulary = strings.Fields(`region failover quota token gateway answer prompt durable stream event
	limit ledger bucket window lease settle commit probe breaker regional deployment caller key audit journal
	café naïve 東京 Ω "quoted" back\slash <tag> & 🙂`)

func newAnswer(q *request, id string) *answer {
	tokens, reasoning, cached := q.directives()
	h := fnv.New64a()
	_, _ = h.Write([]byte(q.text))
	dice := rand.New(rand.NewPCG(h.Sum64(), uint64(q.Seed)))
	a := &answer{finish: "stop", id: strings.ReplaceAll(id, "-", ""), flag: "00", created: time.Now().Unix()}
	if !q.stored() {
		a.flag = "01"
	}
	if tokens < 0 {
		tokens = 8 + dice.IntN(17)
	}
	if reasoning < 0 {
		reasoning = 0
	}
	limit := q.outputCap()
	if limit == 0 {
		limit = q.model.Output
	}
	if limit > 0 && tokens+reasoning > limit {
		reasoning = min(reasoning, limit)
		tokens, a.finish = limit-reasoning, "length"
	}
	prompt := q.promptTokens()
	if cached < 0 {
		cached = prompt / 1024 * 1024 // as the service, which caches only long prefixes
	}
	for range q.N {
		a.words = append(a.words, words(dice, tokens))
	}
	completion := (tokens + reasoning) * q.N
	a.usage = Usage{
		Prompt: int64(prompt), Cached: int64(min(cached, prompt)),
		Completion: int64(completion), Reasoning: int64(reasoning * q.N), Total: int64(prompt + completion),
	}
	return a
}

func words(dice *rand.Rand, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = vocabulary[dice.IntN(len(vocabulary))]
		if i > 0 {
			list[i] = " " + list[i]
		}
	}
	return list
}

// objectID returns the id of an object of this answer in the service's form: 16 digits that
// all of them share, whether the response is stored, the time, and 24 digits more.
func (a *answer) objectID(prefix string) string {
	if prefix == "chatcmpl-" || prefix == "cmpl-" {
		return prefix + a.id[:29]
	}
	return fmt.Sprintf("%s%s%s%08x819%s", prefix, a.id[:16], a.flag, a.created, a.id[11:])
}

func (a *answer) text(choice int) string { return strings.Join(a.words[choice], "") }

// obfuscation returns up to 15 letters, which hide the length of an event's text.
func obfuscation(n int) string { return "Qw8zLk2VtB0aXcE"[:(n*7+3)%16] }
