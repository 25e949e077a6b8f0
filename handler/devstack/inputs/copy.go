package inputs

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// settingsCopy is the variable with a copy of the settings. azd down deletes every output from the environment, and the
// settings are outputs: the next azd up would make the gateway with the defaults, open to everybody.
const settingsCopy = "GW_SETTINGS_COPY"

// ofTheVault are settings that describe a gateway which is gone after azd down.
var ofTheVault = []string{"GW_NETWORK_BEFORE", "GW_WRITTEN_MARK", "GW_CERTIFICATE_KEPT", "GW_BUDGET_START", "GW_KEEP_OPEN"}

func (o Options) copySettings(ctx context.Context, env map[string]string) error {
	names, err := settings(o.Root)
	if err != nil || env["AZURE_SUBSCRIPTION_ID"] == "" {
		return err
	}
	values := map[string]string{}
	for _, name := range names {
		if env[name] != "" && !slices.Contains(ofTheVault, name) {
			values[name] = env[name]
		}
	}
	data, err := json.Marshal(values)
	if err != nil {
		return err
	}
	return o.setTo(ctx, env, settingsCopy, base64.StdEncoding.EncodeToString(data))
}

// restore sets what azd down has deleted.
func (o Options) restore(ctx context.Context, env map[string]string) error {
	if env[settingsCopy] == "" {
		return nil
	}
	values := map[string]string{}
	data, err := base64.StdEncoding.DecodeString(env[settingsCopy])
	if err == nil {
		err = json.Unmarshal(data, &values)
	}
	if err != nil {
		return fmt.Errorf("%s: must be what the hook has written: %w; empty it with azd env set %s \"\"", settingsCopy, err, settingsCopy)
	}
	var restored []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if _, set := env[name]; set {
			continue
		}
		if err := o.set(ctx, env, name, values[name]); err != nil {
			return err
		}
		restored = append(restored, name)
	}
	if len(restored) > 0 {
		o.say("Set again, because azd down deletes them: %s\n", strings.Join(restored, ", "))
	}
	return nil
}
