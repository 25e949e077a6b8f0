package cli

import (
	"fmt"
	"io"
	"strings"

	"aoaigateway/handler/admin"
	"aoaigateway/handler/policy"
	"aoaigateway/handler/usage"
)

type usageCommand struct {
	From string `help:"First hour, such as 2027-01-31 or 2027-01-31T15:00:00Z. Without it: 24 hours before --to."`
	To   string `help:"Hour after the last one. Without it: now."`
	By   string `help:"What to group by, separated by commas: subscription, product, user, model, region." default:"subscription,model"`
}

func (c *usageCommand) Run(e *env) error {
	q, err := admin.ParseQuery(c.From, c.To, c.By)
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
			_, _ = fmt.Fprintln(w, strings.Join(r.Values(q.By), "\t")+"\t"+usageColumns(r.Counts, r.Currency))
		}
		_, _ = fmt.Fprintln(w, "sum"+strings.Repeat("\t", len(q.By))+usageColumns(s.Sum, ""))
	})
}

func usageColumns(c usage.Counts, currency string) string {
	cost := ""
	if currency != "" {
		cost = policy.Money{Millionths: c.CostMillionths, Currency: currency}.String()
	}
	return fmt.Sprintf("%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s", c.Requests, c.Refused, c.Errors, c.Prompt, c.Cached, c.Completion, c.Total, cost)
}
