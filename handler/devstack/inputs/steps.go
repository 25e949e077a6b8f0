package inputs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
)

// openFirst makes two steps of the way from public to private: a provision that closed the public endpoints before the
// private ones stand would take the gateway away for half an hour. The template refuses to do it in one.
func (o Options) openFirst(ctx context.Context, env map[string]string) error {
	if env["GW_NETWORK"] != "private" {
		return nil
	}
	open, _ := strconv.ParseBool(env["GW_KEEP_OPEN"])
	if env["GW_NETWORK_BEFORE"] == "public" && !open {
		if err := o.set(ctx, env, "GW_KEEP_OPEN", "true"); err != nil {
			return err
		}
		open = true
	}
	if open {
		o.say("GW_KEEP_OPEN is true: the public endpoints stay open beside the private network. When all callers use the new GW_URL,\n" +
			"close them: azd env set GW_KEEP_OPEN false && azd provision\n")
	}
	return nil
}

// mark changes GW_WRITE_MARK when the secrets of this machine changed, or what the vault does with them: it tells alerts
// only of the end of secrets that were written after it had been asked to. The template writes them into the vault unless it
// did so with the same mark before; the mark itself says nothing about them. GW_SECRETS_HASH stays on this machine.
func (o Options) mark(ctx context.Context, env map[string]string) error {
	if env["GW_ADMIN_KEY"] == "" && env["GW_TLS_PFX"] == "" {
		return nil // this machine knows no secrets, so another one's mark stays
	}
	sum := sha256.Sum256([]byte(env["GW_ADMIN_KEY"] + "\n" + env["GW_TLS_PFX"] + "\n" + env["GW_NETWORK"] + "\n" + env["GW_ALERT_EMAIL"]))
	hash := hex.EncodeToString(sum[:])
	same := env["GW_SECRETS_HASH"] == hash && env["GW_WRITE_MARK"] != ""
	// Somebody may have deleted the vault with its group. Without az nobody can tell, and the secrets are written again.
	if same && (env["AZURE_RESOURCE_GROUP"] == "" || o.Exists(ctx, env["AZURE_RESOURCE_GROUP"], env["AZURE_SUBSCRIPTION_ID"])) {
		return nil
	}
	if err := o.set(ctx, env, "GW_SECRETS_HASH", hash); err != nil {
		return err
	}
	return o.set(ctx, env, "GW_WRITE_MARK", random(8))
}
