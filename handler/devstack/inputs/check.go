package inputs

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
)

var typedParameter = regexp.MustCompile(`(?m)^param (\w+) (bool|int)\b`)

// checkValues (B5) refuses what azd would drop without a word: a boolean or number that it cannot
// parse is left out, and the template's default applies.
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
	for _, m := range typedParameter.FindAllStringSubmatch(string(template), -1) {
		value := file.Parameters[m[1]].Value
		if len(value) < 4 {
			continue // not set in the environment
		}
		name := value[2 : len(value)-1] // of ${NAME}
		set := env[name]
		if _, err := strconv.ParseBool(set); m[2] == "bool" && set != "" && err != nil {
			mistakes = append(mistakes, fmt.Errorf("%s: must be true or false, not %q; azd would ignore it", name, set))
		}
		if _, err := strconv.ParseInt(set, 10, 64); m[2] == "int" && set != "" && err != nil {
			mistakes = append(mistakes, fmt.Errorf("%s: must be a whole number, not %q; azd would ignore it", name, set))
		}
	}
	return errors.Join(mistakes...)
}
