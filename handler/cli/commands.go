// Package cli is the command line: it manages subscriptions in storage or over HTTP, shows
// usage and verifies the journal.
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

// verbs are the management functions. admin.Manager implements them with storage, Remote
// with a gateway's API.
type verbs interface {
	Create(context.Context, admin.NewSubscription) (admin.Created, error)
	List(context.Context) ([]auth.Subscription, error)
	Show(ctx context.Context, id string) (auth.Subscription, error)
	Rotate(ctx context.Context, id, slot string) (admin.Created, error)
	SetState(ctx context.Context, id string, state auth.State) (auth.Subscription, error)
	Usage(ctx context.Context, q usage.Query) (usage.Summary, error)
}

// Command runs command lines. Its fields are the environment of the process.
type Command struct {
	Out, Err io.Writer
	Environ  []string
	Version  string
}

type commandLine struct {
	URL      string `help:"Address of the gateway to call. Without it: use the storage in the GATEWAY_ settings." env:"GATEWAY_URL"`
	AdminKey string `help:"Admin key of the gateway in --url." env:"GATEWAY_ADMIN_KEY"`
	JSON     bool   `help:"Print JSON."`

	Subscription struct {
		Create  createCommand  `cmd:"" help:"Create a subscription and print its two keys. They are not shown again."`
		List    listCommand    `cmd:"" help:"List subscriptions."`
		Show    showCommand    `cmd:"" help:"Show one subscription."`
		Rotate  rotateCommand  `cmd:"" help:"Replace one of the two keys and print the new one. It is not shown again."`
		Suspend suspendCommand `cmd:"" help:"Refuse the subscription's keys until it is resumed."`
		Resume  resumeCommand  `cmd:"" help:"Accept the subscription's keys again."`
	} `cmd:"" help:"Manage who may call: subscriptions and their keys."`

	Policy struct {
		Check checkCommand `cmd:"" help:"Check a policy file and print every mistake with its line and column."`
	} `cmd:"" help:"Check what callers may do: products and limits."`

	Usage  usageCommand  `cmd:"" help:"Show what callers used: requests, tokens and cost."`
	Verify verifyCommand `cmd:"" help:"Read the journal and report whether it was altered or damaged. Exit code 1: it was."`

	Version kong.VersionFlag `help:"Print the version."`
}

type env struct {
	Command
	ctx   context.Context //nolint:containedctx // kong does not pass a context to commands
	verbs func() (verbs, error)
	json  bool
}

// Run executes one command line and returns the process's exit code.
func (c Command) Run(ctx context.Context, args []string) int {
	var line commandLine
	code := -1
	parser, err := kong.New(&line, kong.Name("gateway"), kong.Writers(c.Out, c.Err), kong.Vars{"version": c.Version},
		kong.Description("The gateway in front of Azure OpenAI. The commands below manage it; the Functions host starts it without a command."),
		kong.Exit(func(n int) { code = n }))
	if err != nil {
		return c.fail(err)
	}
	parsed, err := parser.Parse(args)
	if code >= 0 {
		return code // the command was --help or --version
	}
	if err != nil {
		return c.fail(err)
	}
	e := &env{Command: c, ctx: ctx, json: line.JSON, verbs: func() (verbs, error) {
		if line.URL == "" {
			return localVerbs(c.Environ)
		}
		if u, err := url.Parse(line.URL); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return nil, fmt.Errorf("--url must be the address of the gateway, such as https://gateway.example.com, not %q", line.URL)
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
	Product   string `help:"Product of the subscription; it must be in the policy." default:"default"`
	ID        string `help:"Id of the subscription, which cannot be changed later. Without it, an id is generated." name:"id"`
	Primary   string `help:"Use this primary key. Without it, a key is generated." name:"primary-key"`
	Secondary string `help:"Use this secondary key. Without it, a key is generated." name:"secondary-key"`
	Name      string `arg:"" help:"Display name, such as the name of the team."`
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
	ID string `arg:"" help:"Id of the subscription."`
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
	Key string `help:"Which key to replace." enum:"primary,secondary" default:"secondary"`
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
	File string `arg:"" help:"Path of the file, such as infra/policy.yaml."`
}

func (c *checkCommand) Run(e *env) error {
	data, err := os.ReadFile(c.File)
	if err != nil {
		return err
	}
	if _, err := policy.Parse(c.File, data); err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.Out, c.File+" has no mistakes.")
	return err
}
