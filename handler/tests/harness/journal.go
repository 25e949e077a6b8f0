package harness

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"text/tabwriter"

	"aoaigateway/handler/app"
	"aoaigateway/handler/blob"
	"aoaigateway/handler/devstack/azurite"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal/journaltest"
	"aoaigateway/handler/table"
)

// Journal is the content of the whole journal. Its maps are indexed by record id.
type Journal struct {
	blobs      blob.Store
	BeginLines map[string]gateway.Line
	EndLines   map[string]gateway.Line // corrected by their amends
	again      []string                // ids with several begin lines or several end lines
	batches    int

	Incomplete map[string]int // number of incomplete lines
}

// ReadJournal reads and verifies all files. The test fails if there is a break.
func ReadJournal(t *testing.T, server *azurite.Server) Journal {
	t.Helper()
	blobs, err := blob.NewAzure(blob.AzureOptions{ConnectionString: server.ConnectionString(), Container: app.AuditContainer})
	if err != nil {
		t.Fatal(err)
	}
	b := Journal{blobs: blobs, BeginLines: map[string]gateway.Line{}, EndLines: map[string]gateway.Line{}, Incomplete: map[string]int{}}
	b.batches = len(journaltest.Batches(t, blobs))
	for _, line := range journaltest.Lines(t, blobs) {
		b.enter(line)
	}
	return b
}

func (b *Journal) enter(line gateway.Line) {
	into := b.BeginLines
	switch line.Type {
	case gateway.Begin:
	case gateway.Incomplete:
		b.Incomplete[line.ID]++
		return
	case gateway.End:
		into = b.EndLines
	case gateway.Amend:
		end := b.EndLines[line.ID]
		end.Outcome = line.Outcome
		b.EndLines[line.ID] = end
		return
	}
	if _, twice := into[line.ID]; twice {
		b.again = append(b.again, line.ID)
	}
	into[line.ID] = line
}

// Comparison has the results of comparing what clients saw with the journal.
type Comparison struct {
	requests, streams, whole, refused, cut, killed, left, unanswered int
	beginLines, ends, open, batches, again                           int
	long, unsent                                                     int

	lostEnds, lostBegins, unlike []string // ids of requests for which a promise was broken
}

func (b *Journal) Compare(t *testing.T, sights []Observation) *Comparison {
	t.Helper()
	c := &Comparison{requests: len(sights), beginLines: len(b.BeginLines), ends: len(b.EndLines), batches: b.batches, again: len(b.again)}
	for id := range b.BeginLines {
		if _, ended := b.EndLines[id]; !ended {
			c.open++
		}
	}
	held := map[string]bool{}
	for _, s := range sights {
		c.count(s, b)
		c.checkRequest(t, s, b)
		held[s.ID] = s.Complete || s.Left
	}
	for id, end := range b.EndLines {
		if end.Outcome == gateway.Complete && !held[id] {
			c.unsent++ // the process was killed after the record was durable and before the client had the whole answer
		}
	}
	return c
}

func (c *Comparison) count(s Observation, b *Journal) {
	end, ended := b.EndLines[s.ID]
	switch {
	case s.ID == "":
		c.unanswered++
	case s.Complete && s.Status >= http.StatusBadRequest:
		c.refused++
	case s.Complete && s.Ask.stream:
		c.streams++
	case s.Complete:
		c.whole++
		if s.Ask.Name == LongAsk.Name {
			c.long++
		}
	case s.Left:
		c.left++
	case !ended, end.Outcome == gateway.Complete:
		c.killed++
	default:
		c.cut++
	}
}

// checkRequest checks the promises for one request.
func (c *Comparison) checkRequest(t *testing.T, s Observation, b *Journal) {
	t.Helper()
	end, ended := b.EndLines[s.ID]
	_, hasBegin := b.BeginLines[s.ID]
	name := fmt.Sprintf("%s %s (%s)", s.Ask.Name, s.ID, s.team)
	if s.Complete && !ended && s.Code != "AuditLogUnavailable" {
		c.lostEnds = append(c.lostEnds, name)
	}
	if s.Ask.stream && s.Status == http.StatusOK && s.seen > 0 && !hasBegin {
		c.lostBegins = append(c.lostBegins, name)
	}
	if s.Complete && ended {
		if what := s.unlike(t, end, b); what != "" {
			c.unlike = append(c.unlike, name+": "+what)
		}
	}
}

// unlike returns how an end record differs from the complete answer that it describes; "" =
// it does not.
func (s *Observation) unlike(t *testing.T, end gateway.Line, b *Journal) string {
	t.Helper()
	switch {
	case end.Status != s.Status:
		return fmt.Sprintf("status %d recorded, %d seen", end.Status, s.Status)
	case end.Outcome != gateway.Complete && end.Outcome != gateway.Refused:
		return fmt.Sprintf("outcome %q of an answer seen complete", end.Outcome)
	case end.Subscription != "team-"+s.team:
		return fmt.Sprintf("subscription %q recorded", end.Subscription)
	case s.Tokens > 0 && end.Usage.Total != s.Tokens:
		return fmt.Sprintf("%d tokens recorded, %d seen", end.Usage.Total, s.Tokens)
	case end.Response == nil:
		return "no answer recorded"
	case s.Unaltered && end.Response.SHA256 != s.Sum:
		return "another answer recorded than seen"
	case end.Response.Blob != "" && blobSum(t, b.blobs, end.Response.Blob) != end.Response.SHA256:
		return "the body's blob is not the answer"
	}
	return ""
}

func blobSum(t *testing.T, blobs blob.Store, name string) string {
	t.Helper()
	r, err := blobs.Open(t.Context(), name, 0)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return ""
	}
	defer r.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, r); err != nil {
		t.Error(err)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

func (c *Comparison) Table() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, n int) { _, _ = fmt.Fprintf(w, "%s\t%d\t\n", name, n) }
	row("requests", c.requests)
	row("completed streams", c.streams)
	row("completed bodies", c.whole)
	row("of them over 1 MiB", c.long)
	row("refused", c.refused)
	row("cut by a kill", c.killed)
	row("cut by a region", c.cut)
	row("left by the client", c.left)
	row("no answer", c.unanswered)
	row("journal batches", c.batches)
	row("begin records", c.beginLines)
	row("end records", c.ends)
	row("beginLines without end", c.open)
	row("ends of answers not seen complete", c.unsent)
	row("LOST: completed, no end record", len(c.lostEnds))
	row("LOST: streamed, no begin record", len(c.lostBegins))
	row("records unlike the answer", len(c.unlike))
	row("records written twice", c.again)
	_ = w.Flush()
	return b.String()
}

func (c *Comparison) Check(t *testing.T, plan KillPlan) {
	t.Helper()
	for what, list := range map[string][]string{
		"complete for the client, no end record": c.lostEnds, "streamed to the client, no begin record": c.lostBegins,
		"record unlike the answer": c.unlike,
	} {
		for _, one := range list[:min(len(list), 10)] {
			t.Errorf("%s: %s", what, one)
		}
	}
	if c.again > 0 {
		t.Errorf("%d records stand twice in the journal", c.again)
	}
	// Without enough load, and enough kills in the middle of requests, the checks above
	// would prove nothing.
	for what, n := range map[string][2]int{
		"streams completed": {c.streams, 2 * plan.Kills}, "bodies completed": {c.whole, 2 * plan.Kills}, "of them over 1 MiB": {c.long, 1},
		"streams cut by a kill": {c.killed, plan.Kills}, "beginLines without end": {c.open, plan.Kills / 2}, "refusals": {c.refused, 1},
	} {
		if n[0] < n[1] {
			t.Errorf("the load proves nothing: %d %s, want at least %d", n[0], what, n[1])
		}
	}
}

// ReadCharges returns what the counters of the products with hard limits have charged, by
// team.
func ReadCharges(t *testing.T, server *azurite.Server) map[string]int64 {
	t.Helper()
	store, err := table.NewAzure(table.AzureOptions{ConnectionString: server.ConnectionString(), Table: app.QuotaTable})
	if err != nil {
		t.Fatal(err)
	}
	charged := map[string]int64{}
	for _, team := range []string{"hard", "tight"} {
		e, err := store.Get(context.WithoutCancel(t.Context()), table.Key{Partition: team + "|subscription|team-" + team, Row: "quota"})
		if err != nil {
			t.Fatal(err)
		}
		var limits map[string]struct{ Charged int64 }
		text, _ := e.Props["limits"].(string)
		if err := json.Unmarshal([]byte(text), &limits); err != nil {
			t.Fatal(err)
		}
		charged[team] = limits["tokens/year/hard"].Charged
	}
	return charged
}

// CheckCharges checks two things for each team: the charged tokens are not fewer than those
// in the end records, and these are not fewer than the tokens that clients saw.
func CheckCharges(t *testing.T, charged map[string]int64, b Journal, sights []Observation) {
	t.Helper()
	recorded, seen := map[string]int64{}, map[string]int64{}
	for _, end := range b.EndLines {
		if !end.Usage.Estimated {
			recorded[strings.TrimPrefix(end.Subscription, "team-")] += end.Usage.Total
		}
	}
	refused := 0
	for _, s := range sights {
		if s.Complete {
			seen[s.team] += s.Tokens
		}
		if s.team == "tight" && s.Status == http.StatusForbidden {
			refused++
		}
	}
	for _, team := range []string{"hard", "tight"} {
		Report(t, "%s limit: %d tokens charged, %d in end records, %d seen complete by clients", team, charged[team], recorded[team], seen[team])
		if charged[team] < recorded[team] || recorded[team] < seen[team] || seen[team] == 0 {
			t.Errorf("%s: charged %d, recorded %d, seen %d: each must be at least the next, and the last above 0", team, charged[team],
				recorded[team], seen[team])
		}
	}
	if charged["tight"] > tightLimit || refused == 0 {
		t.Errorf("%d charged under a hard limit of %d, %d requests refused by it", charged["tight"], tightLimit, refused)
	}
}
