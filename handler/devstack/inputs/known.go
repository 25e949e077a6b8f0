package inputs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	newIn     = "GW_NEW_IN"     // the subscription in which az said that there is no such gateway yet
	unchecked = "GW_UNCHECKED"  // what the hook made before the subscription was known
	withoutAz = "GW_WITHOUT_AZ" // somebody answers for what az cannot say
)

// known reports whether the vault keeps secrets that this machine does not have. It refuses what would change a gateway of
// another machine: an environment that does not know the gateway, its settings, or its last deployment.
func (o Options) known(ctx context.Context, env map[string]string) (bool, error) {
	subscription, group := env["AZURE_SUBSCRIPTION_ID"], "rg-"+env["AZURE_ENV_NAME"]
	refreshed := env["AZURE_RESOURCE_GROUP"] != "" // an output
	if subscription == "" && !refreshed && o.BeforeQuestions {
		return false, nil // preprovision asks
	}
	if subscription == "" {
		return false, errors.New("AZURE_SUBSCRIPTION_ID is not set, so nobody can ask whether the gateway exists: " +
			"azd env set AZURE_SUBSCRIPTION_ID <id>")
	}
	exists, err := o.Exists(ctx, group, subscription)
	if err != nil {
		if !answered(env) {
			return false, fmt.Errorf("az cannot say whether the resource group %s exists: %w. Sign in with az login; "+
				"without az, first run azd env refresh if the gateway exists, then azd env set %s true", group, err, withoutAz)
		}
		o.say("Not asked, because %s is true: whether %s exists.\n", withoutAz, group)
		exists = refreshed
	}
	switch {
	case !exists:
		return false, o.fresh(ctx, env)
	case refreshed:
		return o.refreshed(ctx, env)
	case env[newIn] == subscription:
		return false, nil // the first provision of this machine did not end
	}
	if err := o.takeBack(ctx, env); err != nil {
		return false, err
	}
	return false, fmt.Errorf("the resource group %s exists already, and this environment does not know it; "+
		"run azd env refresh first, so that its settings, its public name and its secrets stay as they are", group)
}

// answered says whether somebody has set GW_WITHOUT_AZ.
func answered(env map[string]string) bool {
	set, _ := strconv.ParseBool(env[withoutAz])
	return set
}

// fresh notes that this machine makes a new gateway: what an earlier one kept is gone with its vault.
func (o Options) fresh(ctx context.Context, env map[string]string) error {
	all := o.restore(ctx, env)
	for name, value := range map[string]string{
		newIn: env["AZURE_SUBSCRIPTION_ID"], unchecked: "", "GW_SECRETS_KEPT": "", "GW_CERTIFICATE_KEPT": "",
	} {
		all = errors.Join(all, o.setTo(ctx, env, name, value))
	}
	return all
}

// takeBack forgets the secrets and the name that the hook made before it could ask whether the gateway exists.
func (o Options) takeBack(ctx context.Context, env map[string]string) error {
	for name := range strings.FieldsSeq(env[unchecked]) {
		if err := o.setTo(ctx, env, name, ""); err != nil {
			return err
		}
	}
	return o.setTo(ctx, env, unchecked, "")
}

// refreshed compares this environment with the gateway that exists.
func (o Options) refreshed(ctx context.Context, env map[string]string) (bool, error) {
	if err := o.setTo(ctx, env, newIn, ""); err != nil {
		return false, err
	}
	// All settings come with it. A shell may drop empty ones, and an older deployment has none for a younger parameter.
	if env["GW_DEPLOYMENT"] == "" {
		settings, err := settings(o.Root)
		if err != nil {
			return false, err
		}
		unknown := slices.DeleteFunc(settings, func(name string) bool { return env[name] != "" })
		return false, fmt.Errorf("this environment does not know the last deployment, and would deploy its own values or the defaults of %s; "+
			"run azd env refresh first. If that brings no GW_DEPLOYMENT, an older template made the gateway: set each of them as on "+
			"the first machine, then azd env set GW_DEPLOYMENT <name of the last deployment>", strings.Join(unknown, ", "))
	}
	if err := o.lastDeployment(ctx, env); err != nil {
		return false, err
	}
	if env["GW_SECRETS_KEPT"] == "true" {
		return true, nil
	}
	if env["GW_ADMIN_KEY"] != "" {
		return false, nil
	}
	o.say("The gateway exists; its vault keeps the admin key that it has, and its certificate if it has one.\n")
	return true, o.set(ctx, env, "GW_SECRETS_KEPT", "true")
}

// lastDeployment refuses when another machine has deployed since this environment was refreshed: its settings would go back.
func (o Options) lastDeployment(ctx context.Context, env map[string]string) error {
	said, err := o.Ask(ctx, "deployment", "sub", "list", "--subscription", env["AZURE_SUBSCRIPTION_ID"], "--query",
		`sort_by([?tags."azd-env-name"=='`+env["AZURE_ENV_NAME"]+`' && properties.provisioningState=='Succeeded'], `+
			`&properties.timestamp)[-1].name`)
	var last string
	if err == nil {
		err = json.Unmarshal([]byte(said), &last)
	}
	switch {
	case err != nil && answered(env):
		o.say("Not asked, because %s is true: whether another machine has deployed since the last azd env refresh.\n", withoutAz)
	case err != nil:
		return fmt.Errorf("az cannot say whether another machine has deployed since this environment was refreshed: %w. "+
			"Sign in with az login; without az, run azd env refresh, then azd env set %s true", err, withoutAz)
	case last != "" && last != env["GW_DEPLOYMENT"]:
		return fmt.Errorf("another machine has deployed since: the last deployment is %s, and this environment knows %q. "+
			"Run azd env refresh, and set again what you want to change", last, env["GW_DEPLOYMENT"])
	}
	return nil
}

var (
	outputName = regexp.MustCompile(`(?m)^output (GW_[A-Z_]+) `)
	variable   = regexp.MustCompile(`\$\{(GW_[A-Z_]+)\}`)
)

// settings are the variables that the deployment puts out and the next one reads. The template lists them.
func settings(root string) (names []string, err error) {
	template, err := os.ReadFile(filepath.Join(root, "infra", "main.bicep"))
	if err != nil {
		return nil, err
	}
	parameters, err := os.ReadFile(filepath.Join(root, "infra", "main.parameters.json"))
	if err != nil {
		return nil, err
	}
	read := variable.FindAllStringSubmatch(string(parameters), -1)
	for _, m := range outputName.FindAllStringSubmatch(string(template), -1) {
		if slices.ContainsFunc(read, func(r []string) bool { return r[1] == m[1] }) {
			names = append(names, m[1])
		}
	}
	return names, nil
}
