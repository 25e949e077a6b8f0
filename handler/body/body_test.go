package body

import (
	"bytes"
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"aoaigateway/handler/gateway"
)

func TestRead(t *testing.T) {
	const limit = 10
	stopped := gateway.BodyBroken.New("The request body stopped for 1s.")
	for name, c := range map[string]struct {
		body      io.Reader
		announced int64
		want      string
		kind      gateway.Kind
	}{
		"announced":             {strings.NewReader("0123456789"), 10, "0123456789", 0},
		"chunked":               {strings.NewReader("0123456789"), -1, "0123456789", 0},
		"none":                  {strings.NewReader(""), 0, "", 0},
		"chunked and too long":  {strings.NewReader("0123456789a"), -1, "", gateway.TooLarge},
		"ended early":           {io.MultiReader(strings.NewReader("01"), iotest.ErrReader(io.ErrUnexpectedEOF)), 10, "", gateway.BodyIncomplete},
		"stopped by front's":    {iotest.ErrReader(stopped), 10, "", gateway.BodyIncomplete},
		"one byte at each read": {iotest.OneByteReader(strings.NewReader("0123")), 4, "0123", 0},
	} {
		r := httptest.NewRequest("POST", "/", c.body)
		r.ContentLength = c.announced
		got, err := Read(r, limit)
		if string(got) != c.want || (err == nil) != (c.kind == 0) || err != nil && gateway.KindOf(err) != c.kind {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if name == "stopped by front's" && !errors.Is(err, stopped) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReadAllAllocatesLittle(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 3<<20)
	for _, announced := range []int64{-1, int64(len(long))} {
		got, err := readAll(bytes.NewReader(long), announced)
		if err != nil || !bytes.Equal(got, long) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		if announced > 0 && int64(cap(got)) > announced+64<<10 {
			t.Errorf("a buffer of %d for %d announced bytes", cap(got), announced)
		}
	}
	if got, err := readAll(strings.NewReader("x"), 1<<40); err != nil || cap(got) > 2<<20 {
		t.Errorf("a buffer of %d for one byte, %v", cap(got), err)
	}
}
