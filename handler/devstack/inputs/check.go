package inputs

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	parameterLine = regexp.MustCompile(`(?m)^param (\w+) (\w+)`)
	allowedList   = regexp.MustCompile(`(?s)@allowed\(\[([^\]]*)\]\)`)
	allowedItem   = regexp.MustCompile(`'([^']*)'|(?m)^  (\d+)$`)
	bound         = regexp.MustCompile(`(?m)^@(minValue|maxValue|minLength|maxLength)\((-?\d+)\)`)
)

// checkValues (B5) refuses what azd would drop without a word, and what Azure would refuse with a code or understand otherwise:
// values that the template's own types and decorators do not allow, and lists, ids and names in another form.
func (o Options) checkValues(env map[string]string) error {
	template, err := os.ReadFile(filepath.Join(o.Root, "infra", "main.bicep"))
	if err != nil {
		return err
	}
	data, err := os.ReadFile(filepath.Join(o.Root, "infra", "main.parameters.json"))
	if err != nil {
		return err
	}
	var file struct {
		Parameters map[string]struct{ Value string }
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return fmt.Errorf("infra/main.parameters.json: %w", err)
	}
	var mistakes []error
	for block := range strings.SplitSeq(string(template), "\n\n") {
		m := parameterLine.FindStringSubmatch(block)
		if m == nil || len(file.Parameters[m[1]].Value) < 4 {
			continue // no variable sets it
		}
		value := file.Parameters[m[1]].Value
		name := value[2 : len(value)-1] // of ${NAME}
		if set := env[name]; set != "" && name != "AZURE_LOCATION" {
			mistakes = append(mistakes, checkValue(name, set, m[2], block))
		}
	}
	return errors.Join(append(mistakes, checkForms(env))...)
}

// checkValue holds one value against the type and the decorators of its parameter.
func checkValue(name, value, kind, decorators string) error {
	size, what := int64(len(value)), "have %d characters or %s, and has %d"
	switch kind {
	case "bool":
		if _, err := strconv.ParseBool(value); err != nil {
			return fmt.Errorf("%s: must be true or false, not %q; azd would ignore it", name, value)
		}
	case "int":
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return fmt.Errorf("%s: must be a whole number, not %q; azd would ignore it", name, value)
		}
		size, what = n, "be %d or %s, not %d"
	}
	if list := allowedList.FindStringSubmatch(decorators); list != nil {
		var allowed []string
		for _, m := range allowedItem.FindAllStringSubmatch(list[1], -1) {
			allowed = append(allowed, m[1]+m[2])
		}
		if !slices.Contains(allowed, value) {
			return fmt.Errorf("%s: must be one of %s, not %q", name, strings.Join(allowed, ", "), value)
		}
	}
	for _, m := range bound.FindAllStringSubmatch(decorators, -1) {
		limit, _ := strconv.ParseInt(m[2], 10, 64)
		if strings.HasPrefix(m[1], "min") && size < limit {
			return fmt.Errorf("%s: must "+what, name, limit, "more", size)
		}
		if strings.HasPrefix(m[1], "max") && size > limit {
			return fmt.Errorf("%s: must "+what, name, limit, "less", size)
		}
	}
	return nil
}
