// Package inputs makes what `azd provision` needs and nobody should type: the gateway's
// first admin key, and for the private variant a public name and a self-signed certificate.
// azd runs it as its hooks preup and preprovision. What the azd environment has already stays, and what Azure
// has already is kept where the environment does not know it.
package inputs

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"software.sslmate.com/src/go-pkcs12"
)

// leastKey is what the template demands of an admin key.
const leastKey = 32

// Options of Make.
type Options struct {
	Root    string                                                              // of the project
	Environ []string                                                            // azd's hooks get the azd environment as variables
	Run     func(ctx context.Context, name string, args ...string) error        // azd and az
	Exists  func(ctx context.Context, group, subscription string) (bool, error) // a resource group, as az says
	Ask     func(ctx context.Context, args ...string) (string, error)           // az, for what it says in JSON
	Now     func() time.Time
	Out     io.Writer

	BeforeQuestions bool // azd has not asked for subscription, region and network yet: the hook preup
}

// Make sets in the azd environment what it lacks.
func Make(ctx context.Context, o Options) error {
	env := map[string]string{}
	for _, kv := range o.Environ {
		name, value, _ := strings.Cut(kv, "=")
		env[name] = value
	}
	if env["AZURE_ENV_NAME"] == "" {
		return fmt.Errorf("AZURE_ENV_NAME is not set: azd runs this, as its hooks preup and preprovision")
	}
	if strings.HasSuffix(env["AZURE_ENV_NAME"], ".") {
		return fmt.Errorf("AZURE_ENV_NAME: %q ends with a period, which no resource group's name may", env["AZURE_ENV_NAME"])
	}
	if err := o.checkValues(env); err != nil {
		return err
	}
	if err := o.existing(ctx, env); err != nil {
		return err
	}
	kept, err := o.known(ctx, env)
	if err != nil {
		return err
	}
	if err := o.openFirst(ctx, env); err != nil {
		return err
	}
	before := maps.Clone(env)
	if err := o.secrets(ctx, env, kept); err != nil {
		return err
	}
	return errors.Join(o.noteUnchecked(ctx, env, before), o.copySettings(ctx, env), o.mark(ctx, env))
}

func (o Options) secrets(ctx context.Context, env map[string]string, kept bool) error {
	if !kept || env["GW_ADMIN_KEY"] != "" {
		if err := o.adminKey(ctx, env); err != nil {
			return err
		}
	}
	if env["GW_NETWORK"] == "public" || kept && env["GW_NETWORK"] == "" {
		return nil
	}
	o.register(ctx, env)
	if env["GW_TLS_PFX"] == "" && env["GW_CERTIFICATE_KEPT"] == "true" {
		return nil // the vault has one
	}
	return o.certificate(ctx, env)
}

// noteUnchecked remembers what was made before anybody could ask whether the gateway exists.
func (o Options) noteUnchecked(ctx context.Context, env, before map[string]string) error {
	if env["AZURE_SUBSCRIPTION_ID"] != "" {
		return nil
	}
	made := strings.Fields(env[unchecked])
	for _, name := range []string{"GW_ADMIN_KEY", "GW_TLS_PFX", "GW_DNS_LABEL"} {
		if before[name] == "" && env[name] != "" {
			made = append(made, name)
		}
	}
	return o.setTo(ctx, env, unchecked, strings.Join(made, " "))
}

func (o Options) adminKey(ctx context.Context, env map[string]string) error {
	if key := env["GW_ADMIN_KEY"]; key != "" {
		if len(key) < leastKey {
			return fmt.Errorf("GW_ADMIN_KEY: must have %d characters or more", leastKey)
		}
		return nil
	}
	o.say("Made the admin key; azd env get-value GW_ADMIN_KEY prints it.\n")
	return o.set(ctx, env, "GW_ADMIN_KEY", random(24))
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
	if env["GW_TLS_SECRET_ID"] != "" {
		return nil
	}
	if pfx := env["GW_TLS_PFX"]; pfx != "" {
		return o.end(ctx, env, pfx)
	}
	label := env["GW_DNS_LABEL"]
	if label == "" {
		label = "gw-" + random(6)
		if err := o.set(ctx, env, "GW_DNS_LABEL", label); err != nil {
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
	pfx := base64.StdEncoding.EncodeToString(made.pfx)
	if err := o.set(ctx, env, "GW_TLS_PFX", pfx); err != nil {
		return err
	}
	return o.end(ctx, env, pfx)
}

// end tells the template when the certificate ends, so that the vault can tell of it, and warns when that is soon.
func (o Options) end(ctx context.Context, env map[string]string, pfx string) error {
	data, err := base64.StdEncoding.DecodeString(pfx)
	if err != nil {
		return fmt.Errorf("GW_TLS_PFX: must be a PFX in base64: %w", err)
	}
	_, certificate, _, err := pkcs12.DecodeChain(data, "")
	if err != nil {
		return fmt.Errorf("GW_TLS_PFX: must be a PFX without a password: %w", err)
	}
	if end := certificate.NotAfter; o.Now().Add(30 * 24 * time.Hour).After(end) {
		o.say("The certificate in GW_TLS_PFX ends on %s. For a new self-signed one:\n"+
			"azd env set GW_TLS_PFX \"\" && azd env set GW_CERTIFICATE_KEPT false && azd provision\n", end.Format(time.DateOnly))
	}
	if end := strconv.FormatInt(certificate.NotAfter.Unix(), 10); env["GW_TLS_END"] != end {
		return o.set(ctx, env, "GW_TLS_END", end)
	}
	return nil
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

func (o Options) set(ctx context.Context, env map[string]string, name, value string) error {
	env[name] = value
	if err := o.Run(ctx, "azd", "env", "set", name, value); err != nil {
		return fmt.Errorf("azd env set %s: %w", name, err)
	}
	return nil
}

// setTo sets what is not so already.
func (o Options) setTo(ctx context.Context, env map[string]string, name, value string) error {
	if env[name] == value {
		return nil
	}
	return o.set(ctx, env, name, value)
}

func (o Options) say(format string, args ...any) { _, _ = fmt.Fprintf(o.Out, format, args...) }

// random is n bytes as hexadecimal digits.
func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}
