// Package cli is the command line: the management functions over storage or over HTTP,
// usage, and the verification of the journal.
package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kong"

	"aoaigateway/handler/admin"
	"aoaigateway/handler/auth"
	"aoaigateway/handler/policy"
	"aoaigateway/handler/usage"
)

// verbs are the management functions, on storage (admin.Manager) or through a gateway (Remote).
type verbs interface {
	Create(context.Context, admin.NewSubscription) (admin.Created, error)
	List(context.Context) ([]auth.Subscription, error)
	Show(ctx context.Context, id string) (auth.Subscription, error)
	Rotate(ctx context.Context, id, slot string) (admin.Created, error)
	SetState(ctx context.Context, id string, state auth.State) (auth.Subscription, error)
	Usage(ctx context.Context, q usage.Query) (usage.Summary, error)
}

// Command is the environment of the command line.
type Command struct {
	Out, Err io.Writer
	Environ  []string
	Version  string
}

type commandLine struct {
	URL      string `help:"Gateway to call; without it, the command works on the storage that the GATEWAY_ settings name." env:"GATEWAY_URL"`
	AdminKey string `help:"Admin key for --url." env:"GATEWAY_ADMIN_KEY"`
	JSON     bool   `help:"Print JSON."`

	Subscription struct {
		Create  createCommand  `cmd:"" help:"Make a subscription and print its two keys, once."`
		List    listCommand    `cmd:"" help:"List subscriptions."`
		Show    showCommand    `cmd:"" help:"Show one subscription."`
		Rotate  rotateCommand  `cmd:"" help:"Replace one of the two keys and print the new one, once."`
		Suspend suspendCommand `cmd:"" help:"Refuse the subscription's keys until it is resumed."`
		Resume  resumeCommand  `cmd:"" help:"Accept the subscription's keys again."`
	} `cmd:"" help:"Who may call: subscriptions and their keys."`

	Policy struct {
		Check checkCommand `cmd:"" help:"Check a policy file and print every mistake with its place."`
	} `cmd:"" help:"What they may do: products and limits."`

	Usage  usageCommand  `cmd:"" help:"What they used: sums by the hour."`
	Verify verifyCommand `cmd:"" help:"Read the journal and say whether it is as it was written; exit code 1 if not."`

	Version kong.VersionFlag `help:"Print the version."`
}

type env struct {
	Command
	ctx   context.Context //nolint:containedctx // kong gives its commands no context
	verbs func() (verbs, error)
	json  bool
}

// Run executes one command line and returns the process's exit code.
func (c Command) Run(ctx context.Context, args []string) int {
	var line commandLine
	code := -1
	parser, err := kong.New(&line, kong.Name("gateway"), kong.Writers(c.Out, c.Err), kong.Vars{"version": c.Version},
		kong.Description("The gateway in front of Azure OpenAI. Started by the Functions host it serves; these are its management verbs."),
		kong.Exit(func(n int) { code = n }))
	if err != nil {
		return c.fail(err)
	}
	parsed, err := parser.Parse(args)
	if code >= 0 {
		return code // --help or --version
	}
	if err != nil {
		return c.fail(err)
	}
	e := &env{Command: c, ctx: ctx, json: line.JSON, verbs: func() (verbs, error) {
		if line.URL == "" {
			return localVerbs(c.Environ)
		}
		if u, err := url.Parse(line.URL); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return nil, fmt.Errorf("--url must be the gateway's address, such as https://gateway.example.com, not %q", line.URL)
		}
		return &Remote{URL: line.URL, Key: line.AdminKey, Client: &http.Client{Timeout: 30 * time.Second}}, nil
	}}
	if err := parsed.Run(e); err != nil {
		return c.fail(err)
	}
	return 0
}

func (c Command) fail(err error) int {
	_, _ = fmt.Fprintln(c.Err, "gateway:", err)
	return 1
}

func (e *env) print(v any, text func(w io.Writer)) error {
	if e.json {
		return json.NewEncoder(e.Out).Encode(v)
	}
	w := tabwriter.NewWriter(e.Out, 0, 4, 2, ' ', 0)
	text(w)
	return w.Flush()
}

func (e *env) subscription(sub auth.Subscription, err error) error {
	if err != nil {
		return err
	}
	return e.print(sub, func(w io.Writer) { printSubscription(w, sub) })
}

func (e *env) created(c admin.Created, err error) error {
	if err != nil {
		return err
	}
	return e.print(c, func(w io.Writer) {
		printSubscription(w, c.Subscription)
		for _, key := range []struct{ name, value string }{{"primary key", c.Primary}, {"secondary key", c.Secondary}} {
			if key.value != "" {
				_, _ = fmt.Fprintf(w, "%s\t%s\n", key.name, key.value)
			}
		}
		_, _ = fmt.Fprintln(w, "\t(keys are not shown again)")
	})
}

func printSubscription(w io.Writer, s auth.Subscription) {
	_, _ = fmt.Fprintf(w, "id\t%s\nname\t%s\nproduct\t%s\nstate\t%s\nchanged\t%s\n",
		s.ID, s.Name, s.Product, s.State, s.Changed.Format(time.RFC3339))
}

type createCommand struct {
	Product   string `help:"Product of the policy that it gets." default:"default"`
	ID        string `help:"Stable id; generated if absent." name:"id"`
	Primary   string `help:"Import this primary key instead of making one." name:"primary-key"`
	Secondary string `help:"Import this secondary key instead of making one." name:"secondary-key"`
	Name      string `arg:"" help:"Name for people, such as the team's."`
}

func (c *createCommand) Run(e *env) error {
	verbs, err := e.verbs()
	if err != nil {
		return err
	}
	return e.created(verbs.Create(e.ctx, admin.NewSubscription{
		ID: c.ID, Name: c.Name, Product: c.Product, Primary: c.Primary, Secondary: c.Secondary,
	}))
}

type listCommand struct{}

func (*listCommand) Run(e *env) error {
	verbs, err := e.verbs()
	if err != nil {
		return err
	}
	list, err := verbs.List(e.ctx)
	if err != nil {
		return err
	}
	return e.print(list, func(w io.Writer) {
		_, _ = fmt.Fprintln(w, "ID\tNAME\tPRODUCT\tSTATE\tCHANGED")
		for _, s := range list {
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", s.ID, s.Name, s.Product, s.State, s.Changed.Format(time.RFC3339))
		}
	})
}

type subscriptionID struct {
	ID string `arg:"" help:"The subscription's id."`
}

type showCommand struct{ subscriptionID }

func (c *showCommand) Run(e *env) error {
	verbs, err := e.verbs()
	if err != nil {
		return err
	}
	return e.subscription(verbs.Show(e.ctx, c.ID))
}

type rotateCommand struct {
	subscriptionID
	Key string `help:"Which key." enum:"primary,secondary" default:"secondary"`
}

func (c *rotateCommand) Run(e *env) error {
	verbs, err := e.verbs()
	if err != nil {
		return err
	}
	return e.created(verbs.Rotate(e.ctx, c.ID, c.Key))
}

type suspendCommand struct{ subscriptionID }

func (c *suspendCommand) Run(e *env) error { return e.setState(c.ID, auth.Suspended) }

type resumeCommand struct{ subscriptionID }

func (c *resumeCommand) Run(e *env) error { return e.setState(c.ID, auth.Active) }

func (e *env) setState(id string, state auth.State) error {
	verbs, err := e.verbs()
	if err != nil {
		return err
	}
	return e.subscription(verbs.SetState(e.ctx, id, state))
}

type checkCommand struct {
	File string `arg:"" help:"The file, such as infra/policy.yaml."`
}

func (c *checkCommand) Run(e *env) error {
	data, err := os.ReadFile(c.File)
	if err != nil {
		return err
	}
	if _, err := policy.Parse(c.File, data); err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.Out, c.File+" is in order.")
	return err
}
