package table

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
)

// AzureOptions say which table to use, and how to reach it: either with ConnectionString,
// or with ServiceURL and Credential.
type AzureOptions struct {
	ConnectionString string
	ServiceURL       string // https://<account>.table.core.windows.net
	Credential       azcore.TokenCredential
	Table            string // name of the table; the first insert creates it if it does not exist
	Retry            RetryPolicy
	Transport        policy.Transporter // nil = the SDK's shared client
}

// RetryPolicy says whether a table repeats requests that failed. Under both policies,
// ErrConflict means that another write came first, never that a repetition met its own
// write.
type RetryPolicy int

// The retry policies.
const (
	// Once sends one request per call. Quota counters require it.
	Once RetryPolicy = iota
	// Retrying repeats reads after any temporary failure. It repeats a write only if the
	// failed write certainly was not applied: no connection, 429, 503.
	Retrying
)

// Azure is a table in Azure Table Storage or in Azurite.
type Azure struct {
	client *aztables.Client
	clock  *clock
	writes policy.RetryOptions
}

var _ Store = (*Azure)(nil)

// NewAzure returns the table that o names. It does not use the network, so that a process
// can start while storage cannot be reached. The first insert creates a missing table.
func NewAzure(o AzureOptions) (*Azure, error) {
	a := &Azure{clock: newClock(), writes: policy.RetryOptions{MaxRetries: -1}}
	reads := a.writes
	if o.Retry == Retrying {
		reads = policy.RetryOptions{
			MaxRetries: 4, RetryDelay: 100 * time.Millisecond, MaxRetryDelay: 5 * time.Second, TryTimeout: 10 * time.Second,
		}
		a.writes = reads
		a.writes.ShouldRetry = notApplied
	}
	service, err := o.service(&aztables.ClientOptions{ClientOptions: azcore.ClientOptions{
		Retry: reads, Transport: o.Transport, PerRetryPolicies: []policy.Policy{a.clock},
	}})
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", o.Table, err)
	}
	a.client = service.NewClient(o.Table)
	return a, nil
}

func (o AzureOptions) service(client *aztables.ClientOptions) (*aztables.ServiceClient, error) {
	switch {
	case o.ConnectionString != "" && o.ServiceURL == "" && o.Credential == nil:
		return aztables.NewServiceClientFromConnectionString(o.ConnectionString, client)
	case o.ConnectionString == "" && o.ServiceURL != "" && o.Credential != nil:
		return aztables.NewServiceClient(o.ServiceURL, o.Credential, client)
	}
	return nil, errors.New("the options need either ConnectionString, or ServiceURL together with Credential")
}

// notApplied reports whether a failed write was certainly not applied.
func notApplied(resp *http.Response, err error) bool {
	if err != nil {
		op, ok := errors.AsType[*net.OpError](err)
		return ok && op.Op == "dial"
	}
	return resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable
}

// Get implements Store.
func (a *Azure) Get(ctx context.Context, key Key) (Entity, error) {
	if err := checkKey(key); err != nil {
		return Entity{}, err
	}
	resp, err := a.client.GetEntity(ctx, key.Partition, key.Row, nil)
	if err != nil {
		return Entity{}, outcome("get", err)
	}
	e, err := decode(resp.Value)
	e.Rev = Rev{string(resp.ETag)}
	return e, err
}

// Insert implements Store.
func (a *Azure) Insert(ctx context.Context, e Entity) (Entity, error) {
	data, err := checkAndEncode(e)
	if err != nil {
		return Entity{}, err
	}
	resp, err := a.client.AddEntity(a.forWrite(ctx), data, nil)
	if noTable(err) {
		if err := a.createTable(ctx); err != nil {
			return Entity{}, err
		}
		resp, err = a.client.AddEntity(a.forWrite(ctx), data, nil)
	}
	if err != nil {
		return Entity{}, outcome("insert", err)
	}
	return Entity{Key: e.Key, Rev: Rev{string(resp.ETag)}, Props: stored(e.Props)}, nil
}

func (a *Azure) createTable(ctx context.Context) error {
	_, err := a.client.CreateTable(ctx, nil)
	if err != nil && codeOf(err) != string(aztables.TableAlreadyExists) {
		return fmt.Errorf("table: the missing table cannot be created: %w", err)
	}
	return nil
}

func noTable(err error) bool { return codeOf(err) == string(aztables.TableNotFound) }

// Replace implements Store.
func (a *Azure) Replace(ctx context.Context, e Entity) (Entity, error) {
	data, err := checkAndEncode(e)
	if err != nil {
		return Entity{}, err
	}
	resp, err := a.client.UpdateEntity(a.forWrite(ctx), data, &aztables.UpdateEntityOptions{
		IfMatch: ifMatch(e.Rev), UpdateMode: aztables.UpdateModeReplace,
	})
	if err != nil {
		return Entity{}, outcome("replace", err)
	}
	return Entity{Key: e.Key, Rev: Rev{string(resp.ETag)}, Props: stored(e.Props)}, nil
}

// Swap implements Store. It uses one entity group transaction.
func (a *Azure) Swap(ctx context.Context, list []Entity) error {
	if err := checkAll(list); err != nil {
		return err
	}
	actions := make([]aztables.TransactionAction, len(list))
	for i, e := range list {
		data, err := encode(e)
		if err != nil {
			return err
		}
		actions[i] = aztables.TransactionAction{
			ActionType: aztables.TransactionTypeUpdateReplace, Entity: data, IfMatch: ifMatch(e.Rev),
		}
	}
	_, err := a.client.SubmitTransaction(a.forWrite(ctx), actions, nil)
	return outcome("swap", err)
}

// innerCode matches the error code inside the response to a transaction. The response has
// the status 202 even if an operation failed, and the SDK does not read the status of
// operations.
var innerCode = regexp.MustCompile(`"code"\s*:\s*"(\w+)"`)

func transactionCode(answer *http.Response) string {
	if answer == nil || answer.StatusCode != http.StatusAccepted {
		return ""
	}
	body, err := runtime.Payload(answer)
	if found := innerCode.FindSubmatch(body); err == nil && found != nil {
		return string(found[1])
	}
	return ""
}

// Delete implements Store.
func (a *Azure) Delete(ctx context.Context, e Entity) error {
	if err := checkKey(e.Key); err != nil {
		return err
	}
	o := &aztables.DeleteEntityOptions{IfMatch: ifMatch(e.Rev)}
	_, err := a.client.DeleteEntity(a.forWrite(ctx), e.Partition, e.Row, o)
	return outcome("delete", err)
}

// Scan implements Store. It reads the partition page by page.
func (a *Azure) Scan(ctx context.Context, partition string) iter.Seq2[Entity, error] {
	return func(yield func(Entity, error) bool) {
		if err := checkKey(Key{Partition: partition}); err != nil {
			yield(Entity{}, err)
			return
		}
		filter := "PartitionKey eq '" + strings.ReplaceAll(partition, "'", "''") + "'"
		pager := a.client.NewListEntitiesPager(&aztables.ListEntitiesOptions{Filter: &filter})
		for pager.More() {
			page, err := pager.NextPage(ctx)
			if noTable(err) {
				return
			}
			if err != nil {
				yield(Entity{}, outcome("scan", err))
				return
			}
			for _, data := range page.Entities {
				if e, err := decode(data); !yield(e, err) || err != nil {
					return
				}
			}
		}
	}
}

// Offset implements Store.
func (a *Azure) Offset() time.Duration { return a.clock.get() }

func (a *Azure) forWrite(ctx context.Context) context.Context {
	return policy.WithRetryOptions(ctx, a.writes)
}

func checkAndEncode(e Entity) ([]byte, error) {
	if err := check(e); err != nil {
		return nil, err
	}
	return encode(e)
}

// ifMatch returns the ETag that a write requires. It is never empty and never *, because
// with these the write would always succeed.
func ifMatch(r Rev) *azcore.ETag {
	if r.etag == "" {
		r.etag = "W/\"datetime'1601-01-01T00%3A00%3A00.0000000Z'\""
	}
	return new(azcore.ETag(r.etag))
}

// outcome returns the Store error that corresponds to a service error, and wraps all other
// errors.
func outcome(op string, err error) error {
	if err == nil {
		return nil
	}
	switch codeOf(err) {
	case string(aztables.EntityAlreadyExists):
		return ErrExists
	case string(aztables.UpdateConditionNotSatisfied):
		return ErrConflict
	case string(aztables.ResourceNotFound), string(aztables.EntityNotFound), string(aztables.TableNotFound):
		return ErrNotFound
	}
	return fmt.Errorf("table: %s: %w", op, err)
}

func codeOf(err error) string {
	re, ok := errors.AsType[*azcore.ResponseError](err)
	switch {
	case !ok:
		return ""
	case re.ErrorCode == "":
		return transactionCode(re.RawResponse)
	}
	return re.ErrorCode
}
