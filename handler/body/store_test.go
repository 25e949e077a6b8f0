package body_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"aoaigateway/handler/body"
	"aoaigateway/handler/body/bodytest"
	"aoaigateway/handler/gateway"
)

const mib = 1 << 20

// request is a request with this body. announced is its Content-Length; -1 = chunked.
func request(ctx context.Context, content io.Reader, announced int64) *http.Request {
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/", io.NopCloser(content))
	r.ContentLength = announced
	return r
}

func text(size int) string { return strings.Repeat("0123456789abcdef", size/16+1)[:size] }

func newStore(t *testing.T, o body.Options) *body.Store {
	t.Helper()
	o.Dir = t.TempDir()
	return body.New(o)
}

func readAll(t *testing.T, r io.Reader) string {
	t.Helper()
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestStoreReads(t *testing.T) {
	store := newStore(t, body.Options{MaxBody: 3 * mib})
	for name, c := range map[string]struct {
		size    int
		chunked bool
		memory  bool
	}{
		"nothing": {0, false, true}, "nothing, chunked": {0, true, true},
		"small": {10, false, true}, "small, chunked": {10, true, true},
		"first buffer": {64 << 10, false, true}, "first buffer, chunked": {64 << 10, true, true},
		"largest in memory": {mib, false, true}, "largest in memory, chunked": {mib, true, true},
		"on disk": {mib + 1, false, false}, "on disk, chunked": {mib + 1, true, false},
		"largest": {3 * mib, false, false}, "largest, chunked": {3 * mib, true, false},
	} {
		want, announced := text(c.size), int64(c.size)
		if c.chunked {
			announced = -1
		}
		b, err := store.Read(request(t.Context(), iotest.HalfReader(strings.NewReader(want)), announced), "a")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_, memory := b.InMemory()
		for range 2 { // as often as there are attempts
			if got := readAll(t, b.Reader()); got != want || memory != c.memory || b.Digest() != gateway.DigestOf([]byte(want)) {
				t.Errorf("%s: %d bytes, in memory %t, %+v", name, len(got), memory, b.Digest())
			}
		}
		b.Close()
		b.Close()
	}
}

func TestStoreRefuses(t *testing.T) {
	store := newStore(t, body.Options{MaxBody: 2 * mib})
	stopped := gateway.BodyBroken.New("The request body paused for 1s.")
	broken := iotest.ErrReader(io.ErrUnexpectedEOF)
	for name, c := range map[string]struct {
		content   io.Reader
		announced int64
		kind      gateway.Kind
		message   string
	}{
		"announced too long":   {iotest.ErrReader(errors.New("was read")), 2*mib + 1, gateway.TooLarge, "longer than 2097152 bytes"},
		"chunked and too long": {strings.NewReader(text(2*mib + 1)), -1, gateway.TooLarge, "longer than 2097152 bytes"},
		"ended early":          {io.MultiReader(strings.NewReader("01"), broken), 10, gateway.BodyIncomplete, "broke off after 2 bytes"},
		"ended early, on disk": {
			io.MultiReader(strings.NewReader(text(mib+7)), broken), 2 * mib, gateway.BodyIncomplete, "broke off after 1048583 bytes",
		},
		"paused":          {iotest.ErrReader(stopped), 10, gateway.BodyIncomplete, "paused for 1s"},
		"paused, on disk": {io.MultiReader(strings.NewReader(text(mib)), iotest.ErrReader(stopped)), -1, gateway.BodyIncomplete, "paused for 1s"},
	} {
		_, err := store.Read(request(t.Context(), c.content, c.announced), "a")
		if gateway.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.message) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// hold reads a body of size bytes whose reader then waits until ctx ends, as a slow sender
// does. It returns when nothing more happens.
func hold(ctx context.Context, s *body.Store, owner string, size int, announced int64) <-chan error {
	ended := make(chan error, 1)
	waits := readerFunc(func([]byte) (int, error) { <-ctx.Done(); return 0, io.ErrUnexpectedEOF })
	go func() {
		_, err := s.Read(request(context.WithoutCancel(ctx), io.MultiReader(strings.NewReader(text(size)), waits), announced), owner)
		ended <- err
	}()
	synctest.Wait()
	return ended
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// fits reports whether the store takes a body of size bytes now, and how long that took.
func fits(t *testing.T, s *body.Store, owner string, size int) (bool, time.Duration) {
	t.Helper()
	start := time.Now()
	b, err := s.Read(request(t.Context(), strings.NewReader(text(size)), int64(size)), owner)
	if err == nil {
		b.Close()
		return true, time.Since(start)
	}
	e, ok := errors.AsType[*gateway.Error](err)
	if !ok || e.Code != gateway.RequestBodiesFull.Code || e.Kind.Status() != http.StatusServiceUnavailable || e.RetryAfter != time.Second {
		t.Errorf("%v", err)
	}
	return false, time.Since(start)
}

func TestRoomIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, body.Options{MaxBody: 40 * mib, Disk: 50 * mib})
		ctx, leave := context.WithCancel(t.Context())
		for range 4 {
			hold(ctx, s, "hostile", 9*mib, 9*mib+1)
		}
		if ok, took := fits(t, s, "hostile", 9*mib); ok || took != time.Second {
			t.Errorf("one caller got more than four fifths, or the refusal came after %v", took)
		}
		if ok, took := fits(t, s, "other", 9*mib); !ok || took != 0 {
			t.Errorf("another caller waited %v, got room %t", took, ok)
		}
		time.AfterFunc(500*time.Millisecond, leave)
		if ok, took := fits(t, s, "hostile", 30*mib); !ok || took != 500*time.Millisecond {
			t.Errorf("room was given back after 500 ms; after %v: %t", took, ok)
		}
		if ok, _ := fits(t, s, "other", 40*mib); !ok {
			t.Error("room was lost")
		}
	})
}

// A body that was announced and does not arrive keeps room only for a moment.
func TestTrickledBodyKeepsNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, body.Options{MaxBody: 40 * mib, Disk: 50 * mib})
		ctx, leave := context.WithCancel(t.Context())
		slow := hold(ctx, s, "slow", 10, 39*mib)
		if ok, _ := fits(t, s, "other", 20*mib); ok {
			t.Error("announced room was given away at once")
		}
		time.Sleep(5 * time.Second)
		if ok, _ := fits(t, s, "other", 39*mib); !ok {
			t.Error("a sender that sends nothing keeps the announced room")
		}
		leave()
		if err := <-slow; gateway.KindOf(err) != gateway.BodyIncomplete {
			t.Error(err)
		}
	})
}

func TestMemoryRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, body.Options{Memory: 5 * mib})
		ctx, leave := context.WithCancel(t.Context())
		for range 100 { // of a sender that sends slowly, only the first buffer counts
			hold(ctx, s, "slow", 10, mib)
		}
		if ok, _ := fits(t, s, "slow", mib/2); ok {
			t.Error("one caller got more than four fifths of the memory")
		}
		if ok, _ := fits(t, s, "other", mib/2); !ok {
			t.Error("the bodies of one caller leave no memory to others")
		}
		leave()
		synctest.Wait()
		if ok, _ := fits(t, s, "other", mib); !ok {
			t.Error("memory was lost")
		}
	})
}

// The files have no names, so a killed process leaves nothing.
func TestFilesHaveNoNames(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/body-of-a-killed-process", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := body.New(body.Options{Dir: dir})
	b, err := s.Read(request(t.Context(), strings.NewReader(text(2*mib)), -1), "a")
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
	b.Close()
	if _, err := io.ReadAll(b.Reader()); err == nil {
		t.Error("a closed body can be read")
	}
}

func TestFullDiskRefuses(t *testing.T) {
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := body.New(body.Options{Dir: file + "/no-directory"})
	if ok, _ := fits(t, s, "a", 2*mib); ok {
		t.Error("a body was held without a file")
	}
	if ok, _ := fits(t, s, "a", 10); !ok {
		t.Error("a small body needs no disk")
	}
}

// Edits of a body give the same as edits of a copy, in memory and on disk.
func TestEditsLikeCopies(t *testing.T) {
	store := newStore(t, body.Options{})
	onDisk, err := store.Read(request(t.Context(), strings.NewReader(text(mib+100)), -1), "a")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		b, content := onDisk, text(mib+100)
		if rapid.Bool().Draw(t, "memory") {
			content = rapid.StringN(0, 50, 60).Draw(t, "content")
			b = bodytest.Of([]byte(content))
		}
		var edits []body.Edit
		var want bytes.Buffer
		at := 0
		for range rapid.IntRange(0, 5).Draw(t, "edits") {
			from := rapid.IntRange(at, len(content)).Draw(t, "from")
			to := rapid.IntRange(from, len(content)).Draw(t, "to")
			insert := rapid.StringN(0, 5, 9).Draw(t, "text")
			edits = append(edits, body.Edit{From: int64(from), To: int64(to), Text: insert})
			want.WriteString(content[at:from] + insert)
			at = to
		}
		want.WriteString(content[at:])
		edited := b.With(edits...)
		got, err := io.ReadAll(edited.Reader())
		if err != nil || !bytes.Equal(got, want.Bytes()) || edited.Size() != int64(want.Len()) {
			t.Fatalf("%d bytes, announced %d, want %d, %v", len(got), edited.Size(), want.Len(), err)
		}
	})
}
