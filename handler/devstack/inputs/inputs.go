// Package inputs makes what `azd provision` needs and nobody should type: the gateway's
// first admin key, and for the private variant a public name and a self-signed certificate.
// azd runs it as its preprovision hook; what the azd environment has already stays.
package inputs

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Options of Make.
type Options struct {
	Root    string                                                       // of the project
	Environ []string                                                     // azd's hooks get the azd environment as variables
	Run     func(ctx context.Context, name string, args ...string) error // azd and az
	Out     io.Writer
}

// Make sets in the azd environment what it lacks.
func Make(ctx context.Context, o Options) error {
	env := map[string]string{}
	for _, kv := range o.Environ {
		name, value, _ := strings.Cut(kv, "=")
		env[name] = value
	}
	if env["AZURE_ENV_NAME"] == "" {
		return fmt.Errorf("AZURE_ENV_NAME is not set: azd runs this, as its preprovision hook")
	}
	if err := o.adminKey(ctx, env); err != nil {
		return err
	}
	if env["GW_NETWORK"] == "public" {
		return nil
	}
	o.register(ctx, env)
	return o.certificate(ctx, env)
}

func (o Options) adminKey(ctx context.Context, env map[string]string) error {
	if env["GW_ADMIN_KEY"] != "" {
		return nil
	}
	o.say("Made the admin key; azd env get-value GW_ADMIN_KEY prints it.\n")
	return o.set(ctx, "GW_ADMIN_KEY", random(24))
}

// register asks for the provider behind the delegation of the app's subnet, which no
// deployment registers by itself: without it Azure answers with an unexplained 500.
func (o Options) register(ctx context.Context, env map[string]string) {
	args := []string{"provider", "register", "--namespace", "Microsoft.App"}
	if id := env["AZURE_SUBSCRIPTION_ID"]; id != "" {
		args = append(args, "--subscription", id)
	}
	if err := o.Run(ctx, "az", args...); err != nil {
		o.say("Could not register the provider Microsoft.App (%v). The private variant needs it once a subscription: az %s\n", err,
			strings.Join(args, " "))
	}
}

func (o Options) certificate(ctx context.Context, env map[string]string) error {
	if env["GW_TLS_SECRET_ID"] != "" || env["GW_TLS_PFX"] != "" {
		return nil
	}
	label := env["GW_DNS_LABEL"]
	if label == "" {
		label = "gw-" + random(6)
		if err := o.set(ctx, "GW_DNS_LABEL", label); err != nil {
			return err
		}
	}
	names, err := o.names(env, label)
	if err != nil {
		return err
	}
	made, err := selfSigned(names)
	if err != nil {
		return err
	}
	place := filepath.Join(".azure", env["AZURE_ENV_NAME"], "gateway.pem")
	file := filepath.Join(o.Root, place)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(file, made.pem, 0o600); err != nil {
		return err
	}
	o.say("Made a self-signed certificate for the private variant; clients of a trial trust %s.\n", place)
	return o.set(ctx, "GW_TLS_PFX", base64.StdEncoding.EncodeToString(made.pfx))
}

// names are what the certificate is for. The first time, azd has not asked for the region
// yet, so all of them are in it.
func (o Options) names(env map[string]string, label string) (names []string, err error) {
	regions := []string{env["AZURE_LOCATION"]}
	if regions[0] == "" {
		if regions, err = allowedRegions(filepath.Join(o.Root, "infra", "main.bicep")); err != nil {
			return nil, err
		}
	}
	if host := env["GW_HOST_NAME"]; host != "" {
		names = append(names, host)
	}
	for _, r := range regions {
		names = append(names, label+"."+r+".cloudapp.azure.com")
	}
	return names, nil
}

var (
	allowedBlock = regexp.MustCompile(`(?s)@allowed\(\[([^\]]*)\]\)\s*@metadata\([^\n]*\n\s*param location `)
	quoted       = regexp.MustCompile(`'([a-z0-9]+)'`)
)

func allowedRegions(file string) (regions []string, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block := allowedBlock.FindSubmatch(data)
	if block == nil {
		return nil, fmt.Errorf("%s: no @allowed list above param location", file)
	}
	for _, m := range quoted.FindAllSubmatch(block[1], -1) {
		regions = append(regions, string(m[1]))
	}
	return regions, nil
}

func (o Options) set(ctx context.Context, name, value string) error {
	if err := o.Run(ctx, "azd", "env", "set", name, value); err != nil {
		return fmt.Errorf("azd env set %s: %w", name, err)
	}
	return nil
}

func (o Options) say(format string, args ...any) { _, _ = fmt.Fprintf(o.Out, format, args...) }

// random is n bytes as hexadecimal digits.
func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}
