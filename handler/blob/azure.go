package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/appendblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"aoaigateway/handler/backoff"
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

// Limits of Put. A block may be uploaded again, because its id and its bytes stay the same.
const (
	putBlock    = 1 << 20 // with the service's limit of 50,000 blocks, bodies may have up to 48 GiB
	putAttempts = 4
	putTimeout  = 10 * time.Second // time limit of one try
	putPause    = 200 * time.Millisecond
)

// Put implements [Store]. It tries the upload of each block several times, because r can be
// read only once. Under an immutability policy the service refuses a second upload of a blob
// whose first answer was lost; that upload has succeeded if the blob has the same content.
func (a *Azure) Put(ctx context.Context, name string, r io.Reader) error {
	sum := sha256.New()
	r = io.TeeReader(r, sum)
	err := a.put(ctx, name, r, sum)
	if !bloberror.HasCode(err, bloberror.BlobImmutableDueToPolicy) {
		return err
	}
	if _, rerr := io.Copy(io.Discard, r); rerr != nil { // the rest of the content, for its sum
		return rerr
	}
	p, perr := a.client.NewBlobClient(name).GetProperties(ctx, nil)
	if perr != nil {
		return typed(perr)
	}
	for key, value := range p.Metadata {
		if strings.EqualFold(key, sumKey) && deref(value) == hex.EncodeToString(sum.Sum(nil)) {
			return nil
		}
	}
	return fmt.Errorf("%w, with another content, and cannot be replaced: %w", ErrExists, err)
}

// sumKey is the metadata that has the SHA-256 of a block blob, in hexadecimal digits.
const sumKey = "sha256"

// put uploads r; sum is the sum of what was read from r.
func (a *Azure) put(ctx context.Context, name string, r io.Reader, sum hash.Hash) error {
	client := a.client.NewBlockBlobClient(name)
	block := make([]byte, putBlock)
	var ids []string
	for {
		n, err := io.ReadFull(r, block)
		if n > 0 {
			id := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%08d", len(ids)))
			ids = append(ids, id)
			if err := a.stage(ctx, client, id, block[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	o := &blockblob.CommitBlockListOptions{Metadata: map[string]*string{sumKey: new(hex.EncodeToString(sum.Sum(nil)))}}
	return a.retry(ctx, func(ctx context.Context) error {
		_, err := client.CommitBlockList(ctx, ids, o)
		return err
	})
}

func (a *Azure) stage(ctx context.Context, client *blockblob.Client, id string, data []byte) error {
	return a.retry(ctx, func(ctx context.Context) error {
		_, err := client.StageBlock(ctx, id, seekable(data), nil)
		return err
	})
}

// retry runs op until it succeeds, at most a few times. Each try has its own time limit. op
// must be idempotent.
func (a *Azure) retry(ctx context.Context, op func(context.Context) error) error {
	pauses := backoff.Backoff{First: putPause, Max: time.Second}
	for attempt := 1; ; attempt++ {
		attemptCtx, cancel := context.WithTimeout(ctx, putTimeout)
		err := a.write(attemptCtx, func() error { return op(attemptCtx) })
		cancel()
		if err == nil || attempt == putAttempts || bloberror.HasCode(err, bloberror.BlobImmutableDueToPolicy) || !pauses.Wait(ctx) {
			return err
		}
	}
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
