package loganalytics

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
)

// The limits of the service: for a call, before and after compression, and for a value.
const (
	maxCall  = 1_000_000
	maxValue = 64_000
)

// ingest answers one call and applies faults.
func (s *Sink) ingest(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.counts.Calls++
	s.mu.Unlock()
	body, err := payload(r)
	fault := s.strike(body)
	if fault != nil && fault.before(w, r) {
		s.refused()
		return
	}
	status, code, message := s.take(r, body, err)
	if status != http.StatusNoContent {
		s.refused()
		w.Header().Set("X-Ms-Error-Code", code)
		reply(w, status, failure(code, message))
		return
	}
	if fault != nil && fault.Do == DoLost {
		abort(w)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Sink) refused() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Refused++
}

// take checks a call and stores its rows.
func (s *Sink) take(r *http.Request, body []byte, err error) (status int, code, message string) {
	rule, stream, ok := target(r.URL.Path)
	switch {
	case !ok || r.Method != http.MethodPost:
		return http.StatusNotFound, "NotFound", "there is no resource with this path"
	case r.URL.Query().Get("api-version") != "2023-01-01":
		return http.StatusBadRequest, "InvalidApiVersion", "api-version must be 2023-01-01"
	}
	token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !bearer {
		return http.StatusUnauthorized, "Unauthorized", "the call must have a bearer token"
	}
	if s.options.Token != nil {
		if err := s.options.Token(token); err != nil {
			return http.StatusUnauthorized, "InvalidToken", err.Error()
		}
	}
	switch {
	case rule != s.options.Rule:
		return http.StatusNotFound, "NotFound", "Data collection rule with immutable Id '" + rule + "' not found."
	case stream != s.options.Stream:
		return http.StatusBadRequest, "InvalidStream", "Stream '" + stream + "' is not declared by the rule."
	case !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json"):
		return http.StatusUnsupportedMediaType, "UnsupportedMediaType", "Content-Type must be application/json"
	}
	switch {
	case errors.Is(err, errLarge):
		return http.StatusRequestEntityTooLarge, "ContentLengthLimitExceeded", "Maximum allowed content length: 1 MB."
	case err != nil:
		return http.StatusBadRequest, "InvalidPayload", err.Error()
	}
	var rows []json.RawMessage
	if err := json.Unmarshal(body, &rows); err != nil {
		return http.StatusBadRequest, "InvalidPayload", "the body is not a JSON array: " + err.Error()
	}
	var violations []string
	for i, row := range rows {
		violations = append(violations, s.check(i, row)...)
	}
	if err := s.store(rows, violations); err != nil {
		return http.StatusInternalServerError, "InternalServerError", err.Error()
	}
	return http.StatusNoContent, "", ""
}

func target(path string) (rule, stream string, ok bool) {
	p := strings.Split(strings.Trim(path, "/"), "/")
	if len(p) != 4 || p[0] != "dataCollectionRules" || p[2] != "streams" {
		return "", "", false
	}
	return p[1], p[3], true
}

var errLarge = errors.New("too large")

func payload(r *http.Request) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxCall+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxCall {
		return nil, errLarge
	}
	if r.Header.Get("Content-Encoding") != "gzip" {
		return raw, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(io.LimitReader(z, maxCall+1))
	if err == nil && len(plain) > maxCall {
		err = errLarge
	}
	return plain, err
}

// check lists damage that the service would do to a row without reporting it.
func (s *Sink) check(i int, raw json.RawMessage) (violations []string) {
	add := func(format string, args ...any) {
		violations = append(violations, fmt.Sprintf("row %d: ", i)+fmt.Sprintf(format, args...))
	}
	var row map[string]json.RawMessage
	if err := json.Unmarshal(raw, &row); err != nil {
		add("it is not a JSON object: %.100s", raw)
		return violations
	}
	if _, ok := row["TimeGenerated"]; !ok {
		add("no TimeGenerated")
	}
	for name, value := range row {
		kind, declared := s.options.Columns[name]
		switch {
		case !declared:
			add("%s: the stream does not declare this column, so the service would drop the value", name)
		case string(value) == "null":
		case !fits(kind, value):
			add("%s: the value is not of the type %s: %.100s", name, kind, value)
		case tooLong(value):
			add("%s: the value is longer than 64 KB, so the service would cut it", name)
		}
	}
	slices.Sort(violations)
	return violations
}

func fits(kind string, value json.RawMessage) bool {
	var v any
	d := json.NewDecoder(bytes.NewReader(value))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return false
	}
	switch kind {
	case "string":
		_, ok := v.(string)
		return ok
	case "boolean":
		_, ok := v.(bool)
		return ok
	case "datetime":
		text, ok := v.(string)
		_, err := time.Parse(time.RFC3339Nano, text)
		return ok && err == nil
	case "dynamic":
		return true
	}
	n, ok := v.(json.Number)
	if !ok {
		return false
	}
	if kind == "real" {
		_, err := n.Float64()
		return err == nil
	}
	whole, err := strconv.ParseInt(string(n), 10, 64)
	return err == nil && (kind == "long" || whole >= math.MinInt32 && whole <= math.MaxInt32)
}

// tooLong reports whether a value is too long for a column. It measures the text of a
// string, and the JSON of other values.
func tooLong(value json.RawMessage) bool {
	text := string(value)
	if text[0] == '"' {
		_ = json.Unmarshal(value, &text)
	}
	return len(text) > maxValue || len(utf16.Encode([]rune(text))) > maxValue
}
