package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/appendblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
)

// AzureOptions name a container, and how to reach it: either with ConnectionString, or with
// ServiceURL and Credential.
type AzureOptions struct {
	ServiceURL       string // https://{account}.blob.core.windows.net
	Credential       azcore.TokenCredential
	ConnectionString string
	Container        string
	Transport        policy.Transporter // nil = the SDK's shared client
}

// Azure is one container of Azure Blob Storage or Azurite.
type Azure struct {
	client *container.Client
}

// NewAzure returns the container that o names. It does not use the network, so that a
// process can start while storage cannot be reached. The first write creates a missing
// container.
func NewAzure(o AzureOptions) (*Azure, error) {
	// MaxRetries -1 means no retries; 0 would mean the SDK's default, which is three.
	options := &container.ClientOptions{ClientOptions: azcore.ClientOptions{
		Retry:     policy.RetryOptions{MaxRetries: -1},
		Transport: o.Transport,
	}}
	var client *container.Client
	var err error
	switch {
	case o.Container == "":
		err = errors.New("the options lack Container")
	case o.ConnectionString != "":
		client, err = container.NewClientFromConnectionString(o.ConnectionString, o.Container, options)
	case o.ServiceURL != "" && o.Credential != nil:
		url := strings.TrimRight(o.ServiceURL, "/") + "/" + o.Container
		client, err = container.NewClient(url, o.Credential, options)
	default:
		err = errors.New("the options need either ConnectionString, or ServiceURL together with Credential")
	}
	if err != nil {
		return nil, fmt.Errorf("blob: open the container: %w", err)
	}
	return &Azure{client: client}, nil
}

// Create implements [Store].
func (a *Azure) Create(ctx context.Context, name string) error {
	absent := &appendblob.CreateOptions{AccessConditions: &blob.AccessConditions{
		ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: new(azcore.ETagAny)},
	}}
	return a.write(ctx, func() error {
		_, err := a.client.NewAppendBlobClient(name).Create(ctx, absent)
		return err
	})
}

// Append implements [Store].
func (a *Azure) Append(ctx context.Context, name string, at int64, data []byte) error {
	_, err := a.client.NewAppendBlobClient(name).AppendBlock(ctx, seekable(data), &appendblob.AppendBlockOptions{
		AppendPositionAccessConditions: &appendblob.AppendPositionAccessConditions{AppendPosition: &at},
	})
	return typed(err)
}

// Length implements [Store].
func (a *Azure) Length(ctx context.Context, name string) (int64, bool, error) {
	p, err := a.client.NewBlobClient(name).GetProperties(ctx, nil)
	if err != nil {
		return 0, false, typed(err)
	}
	return deref(p.ContentLength), deref(p.IsSealed), nil
}

// Seal implements [Store].
func (a *Azure) Seal(ctx context.Context, name string) error {
	_, err := a.client.NewAppendBlobClient(name).Seal(ctx, nil)
	if err = typed(err); errors.Is(err, ErrSealed) {
		return nil
	}
	return err
}

// Open implements [Store].
func (a *Azure) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	o := &blob.DownloadStreamOptions{}
	if offset > 0 {
		o.Range = blob.HTTPRange{Offset: offset}
	}
	resp, err := a.client.NewBlobClient(name).DownloadStream(ctx, o)
	if bloberror.HasCode(err, bloberror.InvalidRange) {
		return io.NopCloser(strings.NewReader("")), nil
	}
	if err != nil {
		return nil, typed(err)
	}
	return resp.Body, nil
}

// List implements [Store].
func (a *Azure) List(ctx context.Context, prefix string) ([]Info, error) {
	var found []Info
	pages := a.client.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: &prefix})
	for pages.More() {
		page, err := pages.NextPage(ctx)
		if bloberror.HasCode(err, bloberror.ContainerNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, typed(err)
		}
		for _, item := range page.Segment.BlobItems {
			found = append(found, Info{Name: deref(item.Name), Length: deref(item.Properties.ContentLength)})
		}
	}
	return found, nil
}

// write runs op. If the container is missing, it creates the container and runs op again.
// This repeats no write that may have been applied, because nothing is written without a
// container.
func (a *Azure) write(ctx context.Context, op func() error) error {
	err := op()
	if !bloberror.HasCode(err, bloberror.ContainerNotFound) {
		return typed(err)
	}
	if _, err := a.client.Create(ctx, nil); err != nil && !bloberror.HasCode(err, bloberror.ContainerAlreadyExists) {
		return fmt.Errorf("blob: the missing container cannot be created: %w", err)
	}
	return typed(op())
}

// blobIsSealed is an error code that the SDK does not define.
const blobIsSealed bloberror.Code = "BlobIsSealed"

// typed adds the Store error that corresponds to the service's error, if there is one.
func typed(err error) error {
	answer, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok {
		return err
	}
	switch {
	case bloberror.HasCode(err, bloberror.BlobAlreadyExists):
		return fmt.Errorf("%w: %w", ErrExists, err)
	case bloberror.HasCode(err, bloberror.AppendPositionConditionNotMet):
		return fmt.Errorf("%w: %w", ErrPosition, err)
	case bloberror.HasCode(err, blobIsSealed, bloberror.BlockCountExceedsLimit):
		return fmt.Errorf("%w: %w", ErrSealed, err)
	case answer.StatusCode == http.StatusNotFound: // the blob or the container is missing; answers to HEAD do not say which
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}

// seekable returns data as a reader. Its Seek must never fail, because AppendBlock reports
// success for a body whose size it cannot find out.
func seekable(data []byte) io.ReadSeekCloser { return streaming.NopCloser(bytes.NewReader(data)) }

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
