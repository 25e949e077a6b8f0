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
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"golang.org/x/sync/errgroup"

	"aoaigateway/handler/backoff"
)

// Limits of Put. A block may be uploaded again, because its id and its bytes stay the same.
const (
	streamBlock    = 1 << 20 // block of a body that arrives as a stream; a Put holds two in memory
	firstBuffer    = 64 << 10
	sectionBlock   = 4 << 20 // block of a section, which is not copied; the service allows 50,000 blocks
	maxSingle      = 8 << 20 // the longest section that is uploaded in one operation
	blocksInFlight = 2
	putAttempts    = 4
	putTimeout     = 10 * time.Second // time limit of one try
	putPause       = 200 * time.Millisecond
)

// sumKey is the metadata that has the SHA-256 of a block blob, in hexadecimal digits.
const sumKey = "sha256"

// Put implements [Store]. It tries the upload of each block several times, because r can be
// read only once. It uploads a section without copying it.
//
// Under an immutability policy the service refuses a second upload of a blob whose first
// answer was lost; that upload has succeeded if the blob has the same content.
func (a *Azure) Put(ctx context.Context, name string, r io.Reader) error {
	p := put{azure: a, client: a.client.NewBlockBlobClient(name), name: name, sum: sha256.New()}
	if section, ok := r.(*io.SectionReader); ok {
		return p.section(ctx, section)
	}
	r = io.TeeReader(r, p.sum)
	err := p.stream(ctx, r)
	if !immutable(err) {
		return err
	}
	if _, err := io.Copy(io.Discard, r); err != nil { // the rest, for its sum
		return err
	}
	return p.compare(ctx, err)
}

// put is one call of Put.
type put struct {
	azure  *Azure
	client *blockblob.Client
	name   string
	sum    hash.Hash // of the bytes that were read so far
	ids    []string  // of the blocks, in their order
}

// immutable reports whether an immutability policy forbids the operation.
func immutable(err error) bool { return bloberror.HasCode(err, bloberror.BlobImmutableDueToPolicy) }

func (p *put) section(ctx context.Context, r *io.SectionReader) error {
	if _, err := io.Copy(p.sum, rewound(r)); err != nil {
		return err
	}
	upload := p.blocks
	if r.Size() <= maxSingle {
		upload = p.single
	}
	err := upload(ctx, r)
	if immutable(err) {
		return p.compare(ctx, err)
	}
	return err
}

func (p *put) blocks(ctx context.Context, r *io.SectionReader) error {
	uploads, uploadCtx := errgroup.WithContext(ctx)
	uploads.SetLimit(blocksInFlight)
	for at := int64(0); at < r.Size(); at += sectionBlock {
		block := io.NewSectionReader(r, at, min(sectionBlock, r.Size()-at))
		id := p.next()
		uploads.Go(func() error { return p.stage(uploadCtx, id, block) })
	}
	if err := uploads.Wait(); err != nil {
		return err
	}
	return p.commit(ctx)
}

// stream uploads a block while the next one is read.
func (p *put) stream(ctx context.Context, r io.Reader) error {
	uploads, uploadCtx := errgroup.WithContext(ctx)
	free := make(chan []byte, blocksInFlight)
	free <- nil
	free <- nil
	for {
		var buf []byte
		select {
		case buf = <-free:
		case <-uploadCtx.Done():
			return errors.Join(uploads.Wait(), ctx.Err())
		}
		block, err := readBlock(r, buf)
		if err != nil && !errors.Is(err, io.EOF) {
			return errors.Join(err, uploads.Wait())
		}
		content := io.NewSectionReader(bytes.NewReader(block), 0, int64(len(block)))
		if err != nil && len(p.ids) == 0 {
			return p.single(ctx, content)
		}
		if len(block) > 0 {
			id := p.next()
			uploads.Go(func() error {
				defer func() { free <- block }()
				return p.stage(uploadCtx, id, content)
			})
		}
		if err != nil {
			break
		}
	}
	if err := uploads.Wait(); err != nil {
		return err
	}
	return p.commit(ctx)
}

// readBlock reads until the block is full, and returns io.EOF at the end of r. It uses buf,
// and replaces it by a larger buffer only as bytes arrive, because most streams are short.
func readBlock(r io.Reader, buf []byte) ([]byte, error) {
	block := buf[:0]
	for len(block) < streamBlock {
		if len(block) == cap(block) {
			size := min(max(firstBuffer, 2*cap(block)), streamBlock)
			block = append(make([]byte, 0, size), block...)
		}
		n, err := r.Read(block[len(block):cap(block)])
		block = block[:len(block)+n]
		if err != nil {
			return block, err
		}
	}
	return block, nil
}

// next returns the id of the next block.
func (p *put) next() string {
	id := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%08d", len(p.ids)))
	p.ids = append(p.ids, id)
	return id
}

func (p *put) single(ctx context.Context, r *io.SectionReader) error {
	o := &blockblob.UploadOptions{Metadata: p.metadata()}
	return p.azure.retry(ctx, func(ctx context.Context) error {
		_, err := p.client.Upload(ctx, streaming.NopCloser(rewound(r)), o)
		return err
	})
}

func (p *put) stage(ctx context.Context, id string, r *io.SectionReader) error {
	return p.azure.retry(ctx, func(ctx context.Context) error {
		_, err := p.client.StageBlock(ctx, id, streaming.NopCloser(rewound(r)), nil)
		return err
	})
}

func (p *put) commit(ctx context.Context) error {
	o := &blockblob.CommitBlockListOptions{Metadata: p.metadata()}
	return p.azure.retry(ctx, func(ctx context.Context) error {
		_, err := p.client.CommitBlockList(ctx, p.ids, o)
		return err
	})
}

func (p *put) metadata() map[string]*string {
	return map[string]*string{sumKey: new(hex.EncodeToString(p.sum.Sum(nil)))}
}

// compare returns nil if the blob in place has the content that was read. refusal says that
// the service does not replace it.
func (p *put) compare(ctx context.Context, refusal error) error {
	properties, err := p.client.GetProperties(ctx, nil)
	if err != nil {
		return typed(err)
	}
	for key, value := range properties.Metadata {
		if strings.EqualFold(key, sumKey) && deref(value) == *p.metadata()[sumKey] {
			return nil
		}
	}
	return fmt.Errorf("%w, with another content, and cannot be replaced: %w", ErrExists, refusal)
}

// rewound returns a reader of the whole section, for one try.
func rewound(r *io.SectionReader) io.ReadSeeker { return io.NewSectionReader(r, 0, r.Size()) }

// retry runs op until it succeeds, at most a few times. Each try has its own time limit. op
// must be idempotent.
func (a *Azure) retry(ctx context.Context, op func(context.Context) error) error {
	pauses := backoff.Backoff{First: putPause, Max: time.Second}
	for attempt := 1; ; attempt++ {
		attemptCtx, cancel := context.WithTimeout(ctx, putTimeout)
		err := a.write(attemptCtx, func() error { return op(attemptCtx) })
		cancel()
		if err == nil || immutable(err) || attempt == putAttempts || !pauses.Wait(ctx) {
			return err
		}
	}
}
