package inputs

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
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
	key, pfx, use := sum(env["GW_ADMIN_KEY"]), sum(env["GW_TLS_PFX"]), sum(env["GW_NETWORK"], env["GW_ALERT_EMAIL"])
	before := append(strings.Split(env["GW_SECRETS_HASH"], "."), "", "", "")
	written, mark := env["GW_WRITTEN_MARK"], env["GW_WRITE_MARK"]
	gone := env[newIn] != "" && env["AZURE_RESOURCE_GROUP"] != "" // somebody deleted the vault with its group
	same := before[0] == key && before[1] == pfx && mark != "" && !gone
	foreign := written != "" && written != mark && written != env["GW_MARK_BEFORE"]
	old := (before[2] == replaced || foreign) && !gone
	if same && old {
		o.say("Another machine has written secrets into the vault, and it keeps them: those of this environment may be old.\n" +
			"To write a new key: azd env set GW_ADMIN_KEY <a new key> && azd provision\n")
		return errors.Join(o.setTo(ctx, env, "GW_SECRETS_HASH", key+"."+pfx+"."+replaced),
			o.setTo(ctx, env, "GW_WRITE_MARK", cmp.Or(written, mark)))
	}
	if same && before[2] == use {
		return nil
	}
	if old && before[0] == key { // only what is new here is written
		key = sum("")
		if err := errors.Join(o.set(ctx, env, "GW_ADMIN_KEY", ""), o.set(ctx, env, "GW_SECRETS_KEPT", "true")); err != nil {
			return err
		}
	}
	if old && before[1] == pfx {
		pfx = sum("")
		if err := o.setTo(ctx, env, "GW_TLS_PFX", ""); err != nil {
			return err
		}
	}
	return errors.Join(o.set(ctx, env, "GW_SECRETS_HASH", key+"."+pfx+"."+use), o.setTo(ctx, env, "GW_MARK_BEFORE", written),
		o.set(ctx, env, "GW_WRITE_MARK", random(8)))
}

// replaced stands in GW_SECRETS_HASH for secrets that another machine has replaced.
const replaced = "replaced"

func sum(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return hex.EncodeToString(sum[:])
}
