package admin

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/policy"
	"aoaigateway/handler/usage"
)

// Usage sums what was used.
func (m *Manager) Usage(ctx context.Context, q usage.Query) (usage.Summary, error) {
	return m.Book.Summarize(ctx, q)
}

// Usage implements Verbs.
func (r *Remote) Usage(ctx context.Context, q usage.Query) (s usage.Summary, err error) {
	ask := url.Values{"from": {q.From.UTC().Format(time.RFC3339)}, "to": {q.To.UTC().Format(time.RFC3339)}, "by": {strings.Join(q.By, ",")}}
	err = r.call(ctx, http.MethodGet, "usage?"+ask.Encode(), nil, &s)
	return s, err
}

// usage answers GET /manage/api/usage?from=…&to=…&by=subscription,model.
func (a *API) usage(w http.ResponseWriter, r *http.Request) error {
	ask := r.URL.Query()
	q, err := query(ask.Get("from"), ask.Get("to"), ask.Get("by"))
	if err != nil {
		return &gateway.Error{Kind: gateway.BadRequest, Code: "invalid_query", Message: err.Error()}
	}
	s, err := a.Manager.Usage(r.Context(), q)
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, s)
}

// query reads a question for usage: the last 24 hours, by subscription and model, unless
// it says otherwise.
func query(from, to, by string) (q usage.Query, err error) {
	hour := time.Now().UTC().Truncate(time.Hour)
	if q.To, err = moment(to, hour.Add(time.Hour)); err != nil {
		return q, err
	}
	if q.From, err = moment(from, q.To.Add(-24*time.Hour)); err != nil {
		return q, err
	}
	if by == "" {
		by = "subscription,model"
	}
	for name := range strings.SplitSeq(by, ",") {
		q.By = append(q.By, strings.TrimSpace(name))
	}
	return q, nil
}

// moment reads a day or a time of UTC.
func moment(text string, otherwise time.Time) (time.Time, error) {
	if text == "" {
		return otherwise, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	return otherwise, fmt.Errorf("%q is no time; write one as 2027-01-31 or 2027-01-31T15:00:00Z", text)
}

type usageCommand struct {
	From string `help:"First hour, as 2027-01-31 or 2027-01-31T15:00:00Z; 24 hours before --to if absent."`
	To   string `help:"The hour after the last; now if absent."`
	By   string `help:"What to sum by: subscription, product, user, model, region, with commas between." default:"subscription,model"`
}

func (c *usageCommand) Run(e *env) error {
	q, err := query(c.From, c.To, c.By)
	if err != nil {
		return err
	}
	verbs, err := e.verbs()
	if err != nil {
		return err
	}
	s, err := verbs.Usage(e.ctx, q)
	if err != nil {
		return err
	}
	return e.print(s, func(w io.Writer) {
		_, _ = fmt.Fprintln(w, strings.ToUpper(strings.Join(q.By, "\t"))+"\tREQUESTS\tREFUSED\tERRORS\tPROMPT\tCACHED\tCOMPLETION\tTOTAL\tCOST")
		for _, r := range s.Rows {
			_, _ = fmt.Fprintln(w, strings.Join(r.Values(q.By), "\t")+"\t"+figures(r.Counts, r.Currency))
		}
		_, _ = fmt.Fprintln(w, "sum"+strings.Repeat("\t", len(q.By))+figures(s.Sum, ""))
	})
}

func figures(c usage.Counts, currency string) string {
	cost := ""
	if currency != "" {
		cost = policy.Money{Millionths: c.CostMillionths, Currency: currency}.String()
	}
	return fmt.Sprintf("%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s", c.Requests, c.Refused, c.Errors, c.Prompt, c.Cached, c.Completion, c.Total, cost)
}
