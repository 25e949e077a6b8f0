package body

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"aoaigateway/handler/gateway"
)

// The defaults of Options, which are also the defaults of the settings.
const (
	DefaultMaxBody = 100 << 20
	DefaultDisk    = 640 << 20 // an instance of Flex Consumption has 0.8 GB
	defaultMemory  = 512 << 20
)

const (
	inMemoryMax = gateway.MaxInline // a larger body is held on disk
	step        = 1 << 20           // room is taken in steps of this size when the length of a body is not known
	firstBuffer = 64 << 10          // the first buffer of a body in memory, if the body is not smaller
)

// promise is how long the announced length of a body is kept free. What has not arrived by
// then is given back, so that a slow sender keeps no room that it does not fill.
const promise = 5 * time.Second

// Options of a Store. A zero value means its default.
type Options struct {
	MaxBody int64  // the largest body, in bytes
	Memory  int64  // bytes of all bodies in memory
	Disk    int64  // bytes of all bodies on disk
	Dir     string // the directory of the files; default: a directory of the system for temporary files
}

// Store holds the bodies of all requests of a process. Safe for concurrent use.
type Store struct {
	maxBody      int64
	memory, disk *room
	dir          func() string // creates the directory when it is first needed
}

// New returns a Store.
func New(o Options) *Store {
	dir := cmp.Or(o.Dir, filepath.Join(os.TempDir(), fmt.Sprintf("aoaigateway-bodies-%d", os.Getuid())))
	return &Store{
		maxBody: cmp.Or(o.MaxBody, DefaultMaxBody), memory: newRoom(cmp.Or(o.Memory, defaultMemory)),
		disk: newRoom(cmp.Or(o.Disk, DefaultDisk)), dir: sync.OnceValue(func() string { prepare(dir); return dir }),
	}
}

// Check refuses a body whose announced length is over the limit.
func (s *Store) Check(announced int64) error {
	if announced > s.maxBody {
		return gateway.RequestEntityTooLarge.New("The request body is longer than %d bytes, the most that the gateway accepts.", s.maxBody)
	}
	return nil
}

// Read reads the whole body of a request, because a further attempt at another region needs
// it again. owner is whose room it takes. The caller must close the body.
func (s *Store) Read(r *http.Request, owner string) (*Body, error) {
	if r.Body == nil || r.ContentLength == 0 {
		return inMemory(nil, func() {}), nil
	}
	if err := s.Check(r.ContentLength); err != nil {
		return nil, err
	}
	in := &incoming{ctx: r.Context(), src: r.Body, announced: r.ContentLength, max: s.maxBody}
	if in.announced <= inMemoryMax {
		b, err := s.readMemory(in, owner)
		if b != nil || err != nil {
			return b, in.explain(s, err)
		}
	}
	b, err := s.readDisk(in, owner)
	return b, in.explain(s, err)
}

// incoming is a body that is being read.
type incoming struct {
	ctx       context.Context
	src       io.Reader
	announced int64 // -1 = unknown
	max       int64
	n         int64 // bytes read
}

var errTooLong = errors.New("body: longer than the limit")

func (in *incoming) Read(p []byte) (int, error) {
	n, err := in.src.Read(p)
	if in.n += int64(n); in.n > in.max {
		return 0, errTooLong
	}
	return n, err
}

// explain returns the error for the client.
func (in *incoming) explain(s *Store, err error) error {
	if err == nil {
		return nil
	}
	if _, ours := errors.AsType[*gateway.Error](err); ours { // such as: the body paused for too long
		return err
	}
	if errors.Is(err, errTooLong) {
		return s.Check(in.n)
	}
	return gateway.BodyBroken.New("The request body broke off after %d bytes. Send the request again.", in.n).WithCause(err)
}

// readMemory reads a body into memory. If the body is too large for that, it returns nil, and
// in continues with the first byte. The buffer is never larger than announced, and never
// larger than four times the bytes that have arrived.
func (s *Store) readMemory(in *incoming, owner string) (*Body, error) {
	room := &share{room: s.memory, owner: owner}
	most := int64(inMemoryMax + 1)
	if in.announced >= 0 {
		most = in.announced + 1 // one byte more than announced, so that Read can report the end without another buffer
	}
	var data []byte
	for size := min(firstBuffer, most); ; size = min(4*size, most) {
		if err := room.grow(in.ctx, size); err != nil {
			room.release()
			return nil, err
		}
		data = append(make([]byte, 0, size), data...)
		for len(data) < cap(data) {
			n, err := in.Read(data[len(data):cap(data)])
			data = data[:len(data)+n]
			if errors.Is(err, io.EOF) {
				return inMemory(data, room.release), nil
			}
			if err != nil {
				room.release()
				return nil, err
			}
		}
		if int64(len(data)) > inMemoryMax {
			in.src, in.n = io.MultiReader(bytes.NewReader(data), in.src), 0
			room.release()  // the bytes are on disk in a moment
			return nil, nil //nolint:nilnil // the caller goes on with the disk
		}
	}
}

// buffers are the buffers for reading bodies onto the disk.
var buffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// readDisk reads a body into a file. A failure of the disk, which is usually that it is full,
// refuses the request as missing room does.
func (s *Store) readDisk(in *incoming, owner string) (*Body, error) {
	room := &share{room: s.disk, owner: owner}
	if err := room.grow(in.ctx, max(in.announced, step)); err != nil {
		return nil, err
	}
	defer time.AfterFunc(promise, room.trim).Stop()
	file, remove, err := create(s.dir())
	if err != nil {
		room.release()
		return nil, full(err)
	}
	give := sync.OnceFunc(func() { remove(); room.release() })
	hash := sha256.New()
	buf := buffers.Get().(*[64 << 10]byte)
	defer buffers.Put(buf)
	for {
		n, readErr := in.Read(buf[:])
		_, _ = hash.Write(buf[:n])
		if err = room.fill(in.ctx, int64(n)); err == nil && n > 0 {
			if _, werr := file.Write(buf[:n]); werr != nil {
				err = full(werr)
			}
		}
		if err == nil && readErr != nil && !errors.Is(readErr, io.EOF) {
			err = readErr
		}
		if err != nil {
			give()
			return nil, err
		}
		if readErr != nil {
			room.trim()
			digest := gateway.Digest{Size: in.n, SHA256: hex.EncodeToString(hash.Sum(nil))}
			return &Body{size: in.n, file: file, close: give, digest: func() gateway.Digest { return digest }}, nil
		}
	}
}
