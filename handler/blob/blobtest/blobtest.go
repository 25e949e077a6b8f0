// Package blobtest checks that stores behave as blob.Store says. Its tests run with every
// implementation, so that the store in memory behaves like Blob Storage.
package blobtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"aoaigateway/handler/blob"
)

// Run tests b, which must be an empty container.
func Run(t *testing.T, b blob.Store) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*testing.T, blob.Store)
	}{
		{"a missing blob is told apart from other failures", missing},
		{"a name is created once", createOnce},
		{"an append lands only at the expected position", appendAtPosition},
		{"of appends at one position exactly one lands", appendRace},
		{"the largest append is taken", appendLargest},
		{"a sealed blob takes no appends and can be sealed again", sealed},
		{"a put blob is whole, replaceable and no append blob", put},
		{"a put whose reader fails leaves the blob as it was", putFails},
		{"open reads from any offset", open},
		{"list is in order and keeps to the prefix", list},
		{"an ended context ends the operation", ended},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, b) })
	}
}

func missing(t *testing.T, b blob.Store) {
	ctx, name := t.Context(), "missing/a"
	want(t, "Append", b.Append(ctx, name, 0, []byte("x")), blob.ErrNotFound)
	want(t, "Seal", b.Seal(ctx, name), blob.ErrNotFound)
	_, _, err := b.Length(ctx, name)
	want(t, "Length", err, blob.ErrNotFound)
	_, err = b.Open(ctx, name, 0)
	want(t, "Open", err, blob.ErrNotFound)
}

func createOnce(t *testing.T, b blob.Store) {
	ctx, name := t.Context(), "create/2026/11/23/a.jsonl.gz"
	want(t, "first", b.Create(ctx, name), nil)
	wantLength(t, b, name, 0, false)
	want(t, "append", b.Append(ctx, name, 0, []byte("kept")), nil)
	want(t, "second", b.Create(ctx, name), blob.ErrExists)
	wantContent(t, b, name, "kept")
}

func appendAtPosition(t *testing.T, b blob.Store) {
	ctx, name := t.Context(), "append/a"
	want(t, "Create", b.Create(ctx, name), nil)
	want(t, "too far", b.Append(ctx, name, 1, []byte("x")), blob.ErrPosition)
	want(t, "at 0", b.Append(ctx, name, 0, []byte("one")), nil)
	want(t, "at 0 again", b.Append(ctx, name, 0, []byte("one")), blob.ErrPosition)
	want(t, "at 3", b.Append(ctx, name, 3, []byte("two")), nil)
	wantLength(t, b, name, 6, false)
	wantContent(t, b, name, "onetwo")
}

func appendRace(t *testing.T, b blob.Store) {
	ctx, name := t.Context(), "append/race"
	want(t, "Create", b.Create(ctx, name), nil)
	var won atomic.Int32
	var racers sync.WaitGroup
	for range 8 {
		racers.Go(func() {
			switch err := b.Append(ctx, name, 0, []byte("x")); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, blob.ErrPosition):
				t.Errorf("loser got %v, want ErrPosition", err)
			}
		})
	}
	racers.Wait()
	if won.Load() != 1 {
		t.Errorf("%d appends at position 0 landed, want 1", won.Load())
	}
	wantLength(t, b, name, 1, false)
}

func appendLargest(t *testing.T, b blob.Store) {
	ctx, name := t.Context(), "append/large"
	data := make([]byte, blob.MaxAppend)
	_, _ = rand.Read(data)
	want(t, "Create", b.Create(ctx, name), nil)
	want(t, "Append", b.Append(ctx, name, 0, data), nil)
	wantContent(t, b, name, string(data))
}

func sealed(t *testing.T, b blob.Store) {
	ctx, name := t.Context(), "seal/a"
	want(t, "Create", b.Create(ctx, name), nil)
	want(t, "Append", b.Append(ctx, name, 0, []byte("x")), nil)
	want(t, "Seal", b.Seal(ctx, name), nil)
	want(t, "Seal again", b.Seal(ctx, name), nil)
	want(t, "Append after", b.Append(ctx, name, 1, []byte("y")), blob.ErrSealed)
	wantLength(t, b, name, 1, true)
	wantContent(t, b, name, "x")
}

func put(t *testing.T, b blob.Store) {
	ctx, name := t.Context(), "put/a"
	large := make([]byte, 5<<19) // more than one block, and not a multiple of the block size
	_, _ = rand.Read(large)
	for _, content := range []string{string(large), "", "small"} {
		want(t, "Put", b.Put(ctx, name, bytes.NewReader([]byte(content))), nil)
		wantContent(t, b, name, content)
	}
	want(t, "Create over it", b.Create(ctx, name), blob.ErrExists)
	if err := b.Append(ctx, name, 5, []byte("x")); err == nil {
		t.Error("Append to a put blob succeeded")
	}
}

func putFails(t *testing.T, b blob.Store) {
	ctx, broken := t.Context(), errors.New("source broke")
	source := func() io.Reader {
		return io.MultiReader(bytes.NewReader(make([]byte, 3<<19)), &failing{broken})
	}
	want(t, "Put", b.Put(ctx, "putfails/new", source()), broken)
	_, _, err := b.Length(ctx, "putfails/new")
	want(t, "Length", err, blob.ErrNotFound)

	want(t, "Put", b.Put(ctx, "putfails/old", bytes.NewReader([]byte("old"))), nil)
	want(t, "Put", b.Put(ctx, "putfails/old", source()), broken)
	wantContent(t, b, "putfails/old", "old")
}

func open(t *testing.T, b blob.Store) {
	ctx, name := t.Context(), "open/a"
	want(t, "Create", b.Create(ctx, name), nil)
	wantContent(t, b, name, "")
	want(t, "Append", b.Append(ctx, name, 0, []byte("0123456789")), nil)
	for offset, tail := range map[int64]string{0: "0123456789", 4: "456789", 9: "9", 10: "", 11: ""} {
		if got := read(t, b, name, offset); got != tail {
			t.Errorf("from %d: read %q, want %q", offset, got, tail)
		}
	}
}

func list(t *testing.T, b blob.Store) {
	ctx := t.Context()
	for _, name := range []string{"list/b/2", "list/a/1", "list/b/1", "listing/c"} {
		want(t, "Create", b.Create(ctx, name), nil)
	}
	want(t, "Append", b.Append(ctx, "list/b/1", 0, []byte("abc")), nil)
	for prefix, names := range map[string][]blob.Info{
		"list/":   {{Name: "list/a/1"}, {Name: "list/b/1", Length: 3}, {Name: "list/b/2"}},
		"list/b/": {{Name: "list/b/1", Length: 3}, {Name: "list/b/2"}},
		"list/x":  nil,
	} {
		got, err := b.List(ctx, prefix)
		want(t, "List", err, nil)
		if d := cmp.Diff(names, got); d != "" {
			t.Errorf("List(%q) (-want +got):\n%s", prefix, d)
		}
	}
}

func ended(t *testing.T, b blob.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Create(ctx, "ended/a"); err == nil {
		t.Error("Create with an ended context succeeded")
	}
	if _, _, err := b.Length(ctx, "ended/a"); !errors.Is(err, context.Canceled) {
		t.Errorf("Length = %v, want context.Canceled", err)
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

func want(t *testing.T, op string, got, target error) {
	t.Helper()
	if !errors.Is(got, target) {
		t.Fatalf("%s = %v, want %v", op, got, target)
	}
}

func wantLength(t *testing.T, b blob.Store, name string, length int64, sealed bool) {
	t.Helper()
	n, s, err := b.Length(t.Context(), name)
	if n != length || s != sealed || err != nil {
		t.Errorf("Length(%s) = %d, %v, %v, want %d, %v, nil", name, n, s, err, length, sealed)
	}
}

func wantContent(t *testing.T, b blob.Store, name, content string) {
	t.Helper()
	if got := read(t, b, name, 0); got != content {
		t.Errorf("%s holds %d bytes other than the %d expected", name, len(got), len(content))
	}
}

func read(t *testing.T, b blob.Store, name string, offset int64) string {
	t.Helper()
	r, err := b.Open(t.Context(), name, offset)
	want(t, "Open", err, nil)
	defer func() { _ = r.Close() }()
	data, err := io.ReadAll(r)
	want(t, "read", err, nil)
	return string(data)
}
