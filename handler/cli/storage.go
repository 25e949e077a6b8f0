package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azpolicy "github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"aoaigateway/handler/admin"
	"aoaigateway/handler/app"
	"aoaigateway/handler/app/settings"
	"aoaigateway/handler/auth"
	"aoaigateway/handler/journal/manifest"
	"aoaigateway/handler/journal/verify"
	"aoaigateway/handler/table"
	"aoaigateway/handler/usage"
)

// localVerbs returns the verbs for the storage that the settings name. Only create needs
// the policy.
func localVerbs(environ []string) (verbs, error) {
	s, err := settings.For(settings.Managing, environ)
	if err != nil {
		return nil, fmt.Errorf("without --url the command needs settings that name the storage:\n%w", err)
	}
	identity, err := operator(s)
	if err != nil {
		return nil, err
	}
	store, err := app.OpenTable(s, app.Access{Credential: identity}, app.SubscriptionTable, table.Retrying)
	if err != nil {
		return nil, err
	}
	counts, err := app.OpenTable(s, app.Access{Credential: identity}, app.UsageTable, table.Retrying)
	if err != nil {
		return nil, err
	}
	m := &admin.Manager{Subscriptions: auth.NewSubscriptions(store), Counts: usage.New(counts), Logger: slog.New(slog.DiscardHandler)}
	m.Policy, err = settings.LoadPolicy(s)
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("create needs the policy file to check the product; set GATEWAY_POLICY to its path, such as infra/policy.yaml: %w", err)
	}
	if err != nil {
		return withoutPolicy{m, err}, nil
	}
	return m, nil
}

// withoutPolicy has the verbs for the case that the policy cannot be read: create fails,
// the others work.
type withoutPolicy struct {
	*admin.Manager
	why error
}

// Create implements verbs.
func (u withoutPolicy) Create(context.Context, admin.NewSubscription) (admin.Created, error) {
	return admin.Created{}, u.why
}

// verifyJournal verifies the journal in the storage that the settings name.
func verifyJournal(ctx context.Context, environ []string, from, to time.Time) (verify.Report, error) {
	s, err := settings.For(settings.ReadingBlobs, environ)
	if err != nil {
		return verify.Report{}, fmt.Errorf("the command needs settings that name the storage:\n%w", err)
	}
	identity, err := operator(s)
	if err != nil {
		return verify.Report{}, err
	}
	store, err := app.OpenTable(s, app.Access{Credential: identity}, app.JournalTable, table.Retrying)
	if err != nil {
		return verify.Report{}, err
	}
	blobs, err := app.OpenBlobs(s, app.Access{Credential: identity})
	if err != nil {
		return verify.Report{}, err
	}
	return verify.Run(ctx, manifest.New(store), blobs, from, to)
}

// operator returns the credential of the person who runs the command: the person signed in
// with az or azd, otherwise the managed identity of a machine in Azure. The gateway itself
// never runs az or azd.
func operator(s settings.Values) (azcore.TokenCredential, error) {
	if s.Storage != "" {
		return nil, nil //nolint:nilnil // no service needs a credential
	}
	az, err := azidentity.NewAzureCLICredential(nil)
	if err != nil {
		return nil, fmt.Errorf("az: %w", err)
	}
	azd, err := azidentity.NewAzureDeveloperCLICredential(nil)
	if err != nil {
		return nil, fmt.Errorf("azd: %w", err)
	}
	machine, err := app.Identity(s, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	return operatorCredential{az, azd, machineCredential{machine}}, nil
}

// operatorCredential tries its credentials in order. The SDK's own chain does not fit: it
// stops at az if az is installed but nobody is signed in.
type operatorCredential []azcore.TokenCredential

// GetToken implements azcore.TokenCredential.
func (c operatorCredential) GetToken(ctx context.Context, o azpolicy.TokenRequestOptions) (azcore.AccessToken, error) {
	failed := []error{errors.New("no credential for Azure could be used; sign in with az login")}
	for _, credential := range c {
		token, err := credential.GetToken(ctx, o)
		if err == nil {
			return token, nil
		}
		failed = append(failed, err)
	}
	return azcore.AccessToken{}, errors.Join(failed...)
}

// machineCredential gives up after 5 s, because on machines outside Azure no managed
// identity answers.
type machineCredential struct{ azcore.TokenCredential }

// GetToken implements azcore.TokenCredential.
func (m machineCredential) GetToken(ctx context.Context, o azpolicy.TokenRequestOptions) (azcore.AccessToken, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	token, err := m.TokenCredential.GetToken(ctx, o)
	if err != nil && ctx.Err() != nil {
		err = errors.New("no managed identity answered on this machine; sign in with az login or azd auth login")
	}
	return token, err
}
