// Command devstack stages the Functions app and runs the local stack.
//
//	devstack stage [--here] [--os OS] [--arch ARCH]   build and lay out dist/app and dist/app.zip
//	devstack services [--kind]                        storage and regions; settings in dist/dev.env
//	devstack run [--kind] [--port N]                  services and the staged gateway behind a Functions host
//	devstack check [--update]                         templates, settings and the staged package, without a cloud
//	devstack inputs [--before-questions]              azd's hooks: admin key, certificate, and what a deployment would lose
//	devstack host [--fresh] [--addr HOST:PORT]        only the host stand-in, over dist/app
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"aoaigateway/handler/devstack/funchost"
	"aoaigateway/handler/devstack/inputs"
	"aoaigateway/handler/devstack/stack"
	"aoaigateway/handler/devstack/template"
	"aoaigateway/handler/devstack/tools"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	interrupted := ctx.Err() != nil // asked before stop is called, because stop ends ctx too
	stop()
	if err != nil && !interrupted {
		_, _ = fmt.Fprintln(os.Stderr, "devstack:", err)
		os.Exit(1)
	}
}

const usage = "usage: devstack stage|services|run|host|check|inputs [flags]; -h after a verb lists its flags"

func run(ctx context.Context, args []string, out, log io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("%s", usage)
	}
	flags := flag.NewFlagSet("devstack "+args[0], flag.ContinueOnError)
	flags.SetOutput(log)
	verb, ok := map[string]func(context.Context, *flag.FlagSet, []string, io.Writer, io.Writer) error{
		"stage": stage, "services": services, "run": serve, "host": host, "check": check, "inputs": makeInputs,
	}[args[0]]
	if !ok {
		return fmt.Errorf("%q: %s", args[0], usage)
	}
	return verb(ctx, flags, args[1:], out, log)
}

func stage(ctx context.Context, flags *flag.FlagSet, args []string, out, _ io.Writer) error {
	var o stack.StageOptions
	flags.BoolVar(&o.Here, "here", false, "stage for func start on this machine, with local settings")
	flags.StringVar(&o.OS, "os", "", "GOOS of the gateway (default linux)")
	flags.StringVar(&o.Arch, "arch", "", "GOARCH of the gateway (default amd64)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	dir, err := stack.Stage(ctx, o)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "staged %s and %s.zip\n", dir, dir)
	return err
}

// kindMeaning is what -kind says of itself.
const kindMeaning = "regions refuse nothing that Azure would refuse, and do not fail or throttle at random"

func services(ctx context.Context, flags *flag.FlagSet, args []string, out, _ io.Writer) error {
	var o stack.Options
	kind := flags.Bool("kind", false, kindMeaning)
	if err := flags.Parse(args); err != nil {
		return err
	}
	o.SetKind(*kind)
	s, err := stack.Start(ctx, o)
	if err != nil {
		return err
	}
	defer s.Stop()
	s.Describe(out)
	<-ctx.Done()
	return nil
}

func serve(ctx context.Context, flags *flag.FlagSet, args []string, out, log io.Writer) error {
	o := stack.RunOptions{Out: out, Log: log}
	kind := flags.Bool("kind", false, kindMeaning)
	flags.IntVar(&o.Port, "port", 7071, "first port to try")
	if err := flags.Parse(args); err != nil {
		return err
	}
	o.Stack.SetKind(*kind)
	return stack.Run(ctx, o)
}

func host(ctx context.Context, flags *flag.FlagSet, args []string, out, log io.Writer) error {
	o := funchost.Options{Stdout: log, Log: log, FrontEnd: true}
	flags.BoolVar(&o.Fresh, "fresh", false, "when the gateway dies, replace the whole host as Azure replaces an instance")
	flags.StringVar(&o.Addr, "addr", "127.0.0.1:7071", "address to serve on")
	flags.DurationVar(&o.Timers, "timers", 0, "fire every timer this often (default: never)")
	flags.Int64Var(&o.Memory, "memory", 0, "most bytes of request bodies in memory (default: as on an instance of 2,048 MB)")
	flags.IntVar(&o.Concurrency, "concurrency", 0, "most requests at a time; further requests wait (default: no limit)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return stack.Serve(ctx, o, out)
}

// check runs all checks of what is deployed. `make check` calls it.
func check(ctx context.Context, flags *flag.FlagSet, args []string, out, _ io.Writer) error {
	update := flags.Bool("update", false, "take the templates, the workflow and the host's settings as reviewed: write infra/reviewed.json")
	if err := flags.Parse(args); err != nil {
		return err
	}
	root, err := tools.Root()
	if err != nil {
		return err
	}
	if *update {
		changed, err := template.UpdateReviewed(ctx, root)
		_, _ = fmt.Fprintf(out, "%d texts changed; show them to a reviewer:\n%s\n", len(changed), strings.Join(changed, "\n"))
		return err
	}
	found, err := template.Check(ctx, root)
	if err != nil {
		return err
	}
	dir, err := stack.Stage(ctx, stack.StageOptions{Out: filepath.Join(root, "dist", "check", "app")})
	if err != nil {
		return err
	}
	packed, err := template.CheckPackage(dir)
	if err != nil {
		return err
	}
	scanned, err := template.Scan(ctx, root)
	if err != nil {
		return err
	}
	found = append(append(found, packed...), scanned...)
	for _, f := range found {
		_, _ = fmt.Fprintln(out, f)
	}
	if len(found) > 0 {
		return fmt.Errorf("%d findings", len(found))
	}
	return nil
}

func makeInputs(ctx context.Context, flags *flag.FlagSet, args []string, out, log io.Writer) error {
	before := flags.Bool("before-questions", false, "azd has not asked for subscription, region and network yet: the hook preup")
	if err := flags.Parse(args); err != nil {
		return err
	}
	root, err := tools.Root()
	if err != nil {
		return err
	}
	return inputs.Make(ctx, inputs.Options{
		Root: root, Environ: os.Environ(), Out: out, Now: time.Now, BeforeQuestions: *before,
		Exists: func(ctx context.Context, group, subscription string) (bool, error) {
			said, err := exec.CommandContext(ctx, "az", "group", "exists", "--name", group, "--subscription", subscription).Output()
			if err != nil {
				return false, err
			}
			return strconv.ParseBool(strings.TrimSpace(string(said)))
		},
		Ask: func(ctx context.Context, args ...string) (string, error) {
			said, err := exec.CommandContext(ctx, "az", append(args, "--output", "json")...).Output()
			return string(said), err
		},
		Run: func(ctx context.Context, name string, args ...string) error {
			cmd := exec.CommandContext(ctx, name, args...)
			cmd.Stderr = log
			return cmd.Run()
		},
	})
}
