package kestrel

import (
	"strings"
	"unicode/utf8"
)

// parseTarget splits a request target, decodes its path and resolves the dot segments.
func parseTarget(target, host string) (path, query string, err error) {
	if strings.IndexFunc(target, func(r rune) bool { return r < ' ' || r >= 0x7f }) >= 0 {
		return "", "", errBadRequest
	}
	if target == "*" {
		return "*", "", nil
	}
	if rest, ok := strings.CutPrefix(target, "http://"); ok {
		authority, after, _ := strings.Cut(rest, "/")
		if !strings.EqualFold(authority, host) {
			return "", "", errBadRequest
		}
		target = "/" + after
	}
	if !strings.HasPrefix(target, "/") {
		return "", "", errBadRequest
	}
	path, query, ok := strings.Cut(target, "?")
	if ok {
		query = "?" + query
	}
	if path = decode(path); strings.Contains(path, "\x00") {
		return "", "", errBadRequest
	}
	return removeDots(path), query, nil
}

// decode undoes percent encoding. An encoded slash, what is no encoding, and bytes that are
// not UTF-8 stay as they are written.
func decode(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); {
		if s[i] != '%' {
			out.WriteByte(s[i])
			i++
			continue
		}
		run, end := octets(s, i)
		for len(run) > 0 {
			r, n := utf8.DecodeRune(run)
			if start := end - 3*len(run); r == '/' || r == utf8.RuneError && n == 1 {
				out.WriteString(s[start : start+3])
			} else {
				out.WriteRune(r)
			}
			run = run[n:]
		}
		if end == i { // no encoding
			out.WriteByte('%')
			end++
		}
		i = end
	}
	return out.String()
}

// octets decodes the unbroken run of %XX that begins at i.
func octets(s string, i int) (run []byte, end int) {
	for i+2 < len(s) && s[i] == '%' {
		high, low := strings.IndexByte(hex, s[i+1]|0x20), strings.IndexByte(hex, s[i+2]|0x20)
		if high < 0 || low < 0 {
			break
		}
		run = append(run, byte(high<<4|low))
		i += 3
	}
	return run, i
}

const hex = "0123456789abcdef"

func removeDots(path string) string {
	segments := strings.Split(path, "/")[1:]
	kept := make([]string, 0, len(segments))
	for i, s := range segments {
		last := i == len(segments)-1
		switch s {
		case "..":
			if len(kept) > 0 {
				kept = kept[:len(kept)-1]
			}
			fallthrough
		case ".":
			if last {
				kept = append(kept, "")
			}
		default:
			kept = append(kept, s)
		}
	}
	return "/" + strings.Join(kept, "/")
}

// EncodePath encodes a decoded path again. A percent sign in it is encoded too, so that an
// encoded slash comes out as %252F.
func EncodePath(path string) string { return encode(path, "-._~!$&'()*+,;=:@/", false) }

// EncodeQuery encodes what may not stand in a query and keeps the encodings that stand there.
func EncodeQuery(query string) string { return encode(query, "-._~!$&'()*+,;=:@/?[]", true) }

func encode(s, allowed string, keepEncoded bool) string {
	var out strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte(allowed, c) >= 0:
			out.WriteByte(c)
		case c == '%' && keepEncoded && encoded(s[i:]):
			out.WriteByte(c)
		default:
			const upper = "0123456789ABCDEF"
			out.Write([]byte{'%', upper[c>>4], upper[c&15]})
		}
	}
	return out.String()
}

func encoded(s string) bool {
	run, _ := octets(s[:min(3, len(s))], 0)
	return len(run) == 1
}
