package admin

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/usage"
)

// Usage returns the sums that the query asks for.
func (m *Manager) Usage(ctx context.Context, q usage.Query) (usage.Summary, error) {
	return m.Counts.Summarize(ctx, q)
}

// usage answers GET /manage/api/usage?from=…&to=…&by=subscription,model.
func (a *API) usage(w http.ResponseWriter, r *http.Request) error {
	ask := r.URL.Query()
	q, err := ParseQuery(ask.Get("from"), ask.Get("to"), ask.Get("by"))
	if err != nil {
		return gateway.InvalidQuery.New("%v", err)
	}
	s, err := a.Manager.Usage(r.Context(), q)
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, s)
}

// ParseQuery parses the parameters of a usage query. Defaults: the last 24 hours, grouped
// by subscription and model.
func ParseQuery(from, to, by string) (q usage.Query, err error) {
	hour := time.Now().UTC().Truncate(time.Hour)
	if q.To, err = parseTime(to, hour.Add(time.Hour)); err != nil {
		return q, err
	}
	if q.From, err = parseTime(from, q.To.Add(-24*time.Hour)); err != nil {
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

// parseTime parses a UTC day or time. An empty text stands for otherwise.
func parseTime(text string, otherwise time.Time) (time.Time, error) {
	if text == "" {
		return otherwise, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	return otherwise, fmt.Errorf("%q is not a time; write it as 2027-01-31 or 2027-01-31T15:00:00Z", text)
}
