package template

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// checkLimits holds the arithmetic of bodies: the Functions host reads a whole body before the program sees the request,
// about ten bytes of memory for each, and ends with all its streams when there is none left.
func checkLimits(all templates) (found []Finding) {
	f, app := all["main.bicep"], all["app.bicep"]
	need := func(kind, name, want string) {
		d := f.find("variable", name)
		if d == nil || d.Value.text() != want {
			found = append(found, Finding{f.path, d.lineOf(), fmt.Sprintf("%s must be %s: %s", name, want, kind)})
		}
	}
	need("memory is shared by the requests of an instance", "hostBodyMB",
		"min(instanceMemoryMB * 3 / 10 / httpConcurrency, instanceMemoryMB / 170)")
	if d := f.find("variable", "maxBodyMB"); d == nil || !strings.HasSuffix(d.Value.text(), ": hostBodyMB - 1") ||
		!strings.Contains(d.Value.text(), "fail(") {
		found = append(found, Finding{f.path, d.lineOf(), "maxBodyMB must be below the host's limit, or the gateway's 413 never arrives"})
	}
	call := f.find("module", "app").body().prop("params")
	if call.prop("hostBodyBytes").text() != "hostBodyMB * 1048576" || call.prop("maxBodyMB").text() != "maxBodyMB" {
		found = append(found, Finding{f.path, call.line(), "app: hostBodyBytes must be hostBodyMB * 1048576, and maxBodyMB maxBodyMB"})
	}
	settings := app.find("variable", "appSettings")
	for name, want := range map[string]string{
		"FUNCTIONS_REQUEST_BODY_SIZE_LIMIT": "string(hostBodyBytes)",
		"GATEWAY_MAX_BODY_MB":               "string(maxBodyMB)",
		"AzureWebJobsDisableHomepage":       "true",
	} {
		if e := settings.body().prop(name); e.text() != want {
			found = append(found, Finding{app.path, max(settings.lineOf(), e.line()), name + " must be " + want})
		}
	}
	memory, requests := all["main.bicep"].number("instanceMemoryMB"), all["main.bicep"].number("httpConcurrency")
	if requests == 0 || min(memory*3/10/requests, memory/170) < leastBodyMB {
		found = append(found, Finding{"infra/main.bicep", 0, fmt.Sprintf(
			"%d MB of memory and %d requests at a time leave less than %d MB for a body", memory, requests, leastBodyMB)})
	}
	return append(found, checkStarts(all)...)
}

// leastBodyMB is the least that the defaults must leave for a body: several images, or a long conversation.
const leastBodyMB = 12

// checkStarts: every number has a bound, every parameter of main a sentence (B13).
func checkStarts(all templates) (found []Finding) {
	main := all["main.bicep"]
	for _, d := range main.Declarations {
		if d.Kind != "parameter" {
			continue
		}
		text := strings.Join(d.Decorators, "\n")
		if d.Type == "int" && !strings.Contains(text, "minValue(") && !strings.Contains(text, "allowed(") {
			found = append(found, Finding{main.path, d.Line, d.Name + ": a number needs @minValue or @allowed"})
		}
		if !strings.Contains(text, "description(") {
			found = append(found, Finding{main.path, d.Line, d.Name + " has no @description"})
		}
	}
	return append(found, checkSecretNames(all)...)
}

var (
	secretName = regexp.MustCompile(`(?i)password|pwd|secret|accountkey|acctkey`)
	plainNames = regexp.MustCompile(`(?i)secretname|secretversion|secreturi|secreturl|secretpermissions`)
)

// checkSecretNames is the compiler's own rule secure-secrets-in-params, and BCP334 (B17).
func checkSecretNames(all templates) (found []Finding) {
	all.each("parameter", func(f *file, d *declaration) {
		text := strings.Join(d.Decorators, "\n")
		if d.Type == "string" && secretName.MatchString(d.Name) && !plainNames.MatchString(d.Name) && !strings.Contains(text, "secure()") {
			found = append(found, Finding{f.path, d.Line, d.Name + ": the compiler takes its name for a secret's, and warns"})
		}
		if d.Name == "token" && !strings.Contains(text, "minLength(13)") {
			found = append(found, Finding{f.path, d.Line, "token needs @minLength(13), or the compiler warns of names that are too short"})
		}
	})
	return found
}

// number is the default of a parameter that is a number.
func (f *file) number(name string) int {
	d := f.find("parameter", name)
	if d == nil {
		return 0
	}
	n, _ := strconv.Atoi(d.Value.text())
	return n
}

func (d *declaration) lineOf() int {
	if d == nil {
		return 0
	}
	return d.Line
}
