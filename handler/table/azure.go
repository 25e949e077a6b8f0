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

// AzureOptions say which table to open, and how: ConnectionString, or ServiceURL and
// Credential.
type AzureOptions struct {
	ConnectionString string
	ServiceURL       string // https://<account>.table.core.windows.net
	Credential       azcore.TokenCredential
	Table            string // created by the first insert if it is missing
	Retry            RetryPolicy
}

// RetryPolicy says whether a table repeats requests that failed. A conflict is a true
// one under both policies.
type RetryPolicy int

// The retry policies.
const (
	// Once sends one request per method. Quota counters need it.
	Once RetryPolicy = iota
	// Retrying repeats reads after any transient failure, and writes only after a failure
	// that cannot have been applied: no connection, 429, 503.
	Retrying
)

// Azure is a table in Azure Table Storage, or in Azurite.
type Azure struct {
	client *aztables.Client
	clock  *clock
	writes policy.RetryOptions
}

var _ Store = (*Azure)(nil)

// NewAzure returns the table that o names. It does not touch the network: the first insert
// creates a missing table, so that a process can start while storage is unreachable.
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
		Retry: reads, PerRetryPolicies: []policy.Policy{a.clock},
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
	return nil, errors.New("set either ConnectionString, or ServiceURL together with Credential")
}

// notApplied reports whether a failed write certainly did not reach the table.
func notApplied(resp *http.Response, err error) bool {
	if err != nil {
		op, ok := errors.AsType[*net.OpError](err)
		return ok && op.Op == "dial"
	}
	return resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable
}

// Get reads one entity.
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

// Insert adds an entity.
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
		return fmt.Errorf("table: create table: %w", err)
	}
	return nil
}

func noTable(err error) bool { return codeOf(err) == string(aztables.TableNotFound) }

// Replace swaps the entity if e.Rev is current.
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

// Swap replaces all of list in one entity group transaction.
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

// innerCode finds the error code inside a transaction's response. The response has status
// 202 although an operation failed, and the SDK does not read the inner status.
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

// Delete removes the entity if e.Rev is current.
func (a *Azure) Delete(ctx context.Context, e Entity) error {
	if err := checkKey(e.Key); err != nil {
		return err
	}
	o := &aztables.DeleteEntityOptions{IfMatch: ifMatch(e.Rev)}
	_, err := a.client.DeleteEntity(a.forWrite(ctx), e.Partition, e.Row, o)
	return outcome("delete", err)
}

// Scan yields a partition in row order, page by page.
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

// Offset is the store's clock minus ours.
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

// ifMatch never returns an empty ETag or *: with those the last writer would win.
func ifMatch(r Rev) *azcore.ETag {
	if r.etag == "" {
		r.etag = "W/\"datetime'1601-01-01T00%3A00%3A00.0000000Z'\""
	}
	return new(azcore.ETag(r.etag))
}

// outcome maps service errors to the errors of Store, and wraps all others.
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
