package kestrel

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of a request's head, as the Functions host sets them.
const (
	maxLine    = 8 << 10
	maxHeaders = 32 << 10
	maxFields  = 100
)

// Field is one header line. Names keep the case in which the caller wrote them.
type Field struct{ Name, Value string }

// Fields are the header lines of a message in their order.
type Fields []Field

// Get returns the first value of a name, in any case.
func (f Fields) Get(name string) string {
	for _, field := range f {
		if strings.EqualFold(field.Name, name) {
			return field.Value
		}
	}
	return ""
}

// count returns how many lines have this name.
func (f Fields) count(name string) (n int) {
	for _, field := range f {
		if strings.EqualFold(field.Name, name) {
			n++
		}
	}
	return n
}

// Head is the head of a request. Path is decoded and free of dot segments; Query begins with ? or is empty.
type Head struct {
	Method, Path, Query string
	Minor               int // of the HTTP version: 0 or 1
	Header              Fields
	Length              int64 // of the body; -1 when it is chunked
}

// refusal is the status of a request that does not get as far as the application.
type refusal int

func (r refusal) Error() string { return http.StatusText(int(r)) }

const errBadRequest = refusal(http.StatusBadRequest)

// readHead reads one head. An error that is no refusal means that the connection is of no use any more.
func readHead(r *bufio.Reader) (h Head, err error) {
	line, err := readLine(r, maxLine, http.StatusRequestURITooLong)
	if err != nil {
		return h, err
	}
	target, err := h.parseLine(line)
	if err != nil {
		return h, err
	}
	for left := maxHeaders; ; {
		line, err := readLine(r, left, http.StatusRequestHeaderFieldsTooLarge)
		if err != nil {
			return h, err
		}
		if line == "" {
			break
		}
		if left -= len(line) + 2; len(h.Header) == maxFields {
			return h, refusal(http.StatusRequestHeaderFieldsTooLarge)
		}
		name, value, ok := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		if !ok || !isToken(name) || !utf8.ValidString(value) || strings.ContainsAny(value, "\x00\r") {
			return h, errBadRequest // includes folded lines, which begin with white space
		}
		h.Header = append(h.Header, Field{name, value})
	}
	host, err := h.checkHost()
	if err != nil {
		return h, err
	}
	if h.Path, h.Query, err = parseTarget(target, host); err != nil {
		return h, err
	}
	return h, h.readFraming()
}

// readLine reads up to a line feed, with or without a carriage return before it.
func readLine(r *bufio.Reader, limit, tooLong int) (string, error) {
	b, err := r.ReadSlice('\n')
	if len(b) > limit || errors.Is(err, bufio.ErrBufferFull) {
		return "", refusal(tooLong)
	}
	if err != nil {
		return "", errors.Join(err, io.ErrUnexpectedEOF)
	}
	return string(bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))), nil
}

func (h *Head) parseLine(line string) (target string, err error) {
	method, rest, _ := strings.Cut(line, " ")
	target, proto, ok := strings.Cut(rest, " ")
	switch {
	case !ok || !isToken(method) || target == "" || method == http.MethodConnect:
		return "", errBadRequest
	case proto == "HTTP/1.0" || proto == "HTTP/1.1":
		h.Minor = int(proto[7] - '0')
	case strings.HasPrefix(proto, "HTTP/"):
		return "", refusal(http.StatusHTTPVersionNotSupported)
	default:
		return "", errBadRequest
	}
	h.Method = strings.ToUpper(method) // the host passes every method in upper case
	return target, nil
}

func (h *Head) checkHost() (string, error) {
	host := h.Header.Get("Host")
	switch n := h.Header.count("Host"); {
	case n > 1 || n == 0 && h.Minor == 1:
		return "", errBadRequest
	case n == 0:
		return "", refusal(http.StatusInternalServerError)
	case !isHost(host):
		return "", errBadRequest
	}
	return host, nil
}

func isHost(s string) bool {
	name, port, err := net.SplitHostPort(s)
	if err != nil {
		name, port = s, "0"
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return false
	}
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return true
	}
	return name == "" || strings.IndexFunc(name, func(r rune) bool {
		return r >= utf8.RuneSelf || !isToken(string(r)) && !strings.ContainsRune("()", r)
	}) < 0
}

func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// readFraming finds how long the body is. A chunked body wins over a length.
func (h *Head) readFraming() error {
	encoding, length := h.Header.Get("Transfer-Encoding"), h.Header.Get("Content-Length")
	if encoding != "" {
		last := encoding[strings.LastIndexByte(encoding, ',')+1:]
		if !strings.EqualFold(strings.TrimSpace(last), "chunked") {
			return errBadRequest
		}
		h.Length = -1
		return nil
	}
	switch h.Header.count("Content-Length") {
	case 0:
		return nil
	case 1:
	default:
		return errBadRequest
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(length, "+"), 10, 63)
	if err != nil {
		return errBadRequest
	}
	h.Length = int64(n)
	return nil
}
