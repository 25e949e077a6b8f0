package template

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// reviewedPath holds a hash of every declaration of the templates and of the files beside them, so that a change of what the
// other rules do not name is made in two places on purpose, and shows in a review.
const reviewedPath = "infra/reviewed.json"

// reviewedTexts are files that are held whole, without comments.
var reviewedTexts = []string{
	"azure.yaml", "host.json", ".github/workflows/azure-dev.yml", "infra/types.bicep", "infra/queries/*.kql", "functions/*/function.json",
}

type reviewed struct {
	Protects map[string]string `json:"protects"` // by kind of declaration, type of resource, or pattern of files
	Blocks   map[string]string `json:"blocks"`   // hashes, by file, kind and name
}

// block is a text that is held: its kind says what it protects.
type block struct {
	file, kind string
	line       int
	hash       string
}

// blocks are all texts that are held, by the names that reviewed.json has for them.
func blocks(root string, all templates) (map[string]block, error) {
	list := map[string]block{}
	for _, name := range all.names() {
		for _, d := range all[name].Declarations {
			if d.Existing {
				continue
			}
			kind := d.Kind
			if kind == "resource" {
				kind = d.resourceType()
			}
			list[fmt.Sprintf("%s %s %s", all[name].path, d.Kind, d.Name)] = block{all[name].path, kind, d.Line, shortHash(d.canonical())}
		}
	}
	for _, pattern := range reviewedTexts {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			name, err := filepath.Rel(root, path)
			if err != nil {
				return nil, err
			}
			name = filepath.ToSlash(name)
			list[name] = block{name, pattern, 0, shortHash(commentLine.ReplaceAllString(string(data), ""))}
		}
	}
	return list, nil
}

var commentLine = regexp.MustCompile(`(?m)^\s*(#|//).*\n`)

func shortHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:6])
}

// canonical is a declaration without comments, descriptions and layout.
func (d *declaration) canonical() string {
	var b strings.Builder
	for _, decorator := range d.Decorators {
		if !strings.HasPrefix(decorator, "description(") {
			b.WriteString("@" + oneLine(decorator) + "\n")
		}
	}
	fmt.Fprintf(&b, "%s %s %s %s %t ", d.Kind, d.Name, d.Type, d.Target, d.Required)
	d.Value.canonical(&b)
	return b.String()
}

func (e *expr) canonical(b *strings.Builder) {
	if e == nil {
		return
	}
	switch e.Kind {
	case "object":
		b.WriteByte('{')
		for _, p := range e.Props {
			b.WriteString(p.Name + ":")
			p.Value.canonical(b)
			b.WriteByte(';')
		}
		b.WriteByte('}')
		return
	case "if":
		b.WriteString("if(" + oneLine(e.Test) + ")")
	case "for": // its head stands before its body
		head, _, _ := strings.Cut(e.Text, e.Items[0].Text)
		b.WriteString(oneLine(head))
	case "array":
	default: // calls and the like repeat all that is in them
		b.WriteString(e.Kind + " " + oneLine(e.Text))
		return
	}
	for _, item := range e.Items {
		b.WriteByte('[')
		item.canonical(b)
		b.WriteByte(']')
	}
}

var trailingComment = regexp.MustCompile(`(?m)^\s*//.*$`)

func oneLine(text string) string {
	return strings.Join(strings.Fields(trailingComment.ReplaceAllString(text, "")), " ")
}

func readReviewed(root string) (r reviewed, err error) {
	data, err := os.ReadFile(filepath.Join(root, reviewedPath))
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	return r, err
}

// checkReviewed: what is deployed is what was reviewed.
func checkReviewed(root string, all templates) (found []Finding) {
	held, err := readReviewed(root)
	if err != nil {
		return []Finding{{reviewedPath, 0, err.Error()}}
	}
	have, err := blocks(root, all)
	if err != nil {
		return []Finding{{reviewedPath, 0, err.Error()}}
	}
	const update = "; if it is meant: go run ./handler/devstack check --update"
	for name, b := range have {
		protects := held.Protects[b.kind]
		switch hash, ok := held.Blocks[name]; {
		case protects == "":
			found = append(found, Finding{reviewedPath, 0, fmt.Sprintf("protects has no sentence for %s", b.kind)})
		case !ok:
			found = append(found, Finding{b.file, b.line, fmt.Sprintf("%s is new and was not reviewed (%s)%s", name, protects, update)})
		case hash != b.hash:
			found = append(found, Finding{b.file, b.line, fmt.Sprintf("%s is not what was reviewed (%s)%s", name, protects, update)})
		}
	}
	for name := range held.Blocks {
		if _, ok := have[name]; !ok {
			found = append(found, Finding{reviewedPath, 0, name + " is gone" + update})
		}
	}
	return found
}

// UpdateReviewed takes what is there as reviewed, and returns the names of what changed.
func UpdateReviewed(ctx context.Context, root string) (changed []string, err error) {
	all, err := readTemplates(ctx, root)
	if err != nil {
		return nil, err
	}
	held, err := readReviewed(root)
	if err != nil {
		return nil, err
	}
	have, err := blocks(root, all)
	if err != nil {
		return nil, err
	}
	before := held.Blocks
	held.Blocks = map[string]string{}
	for name, b := range have {
		held.Blocks[name] = b.hash
		if before[name] != b.hash {
			changed = append(changed, name)
		}
	}
	for name := range maps.Keys(before) {
		if _, ok := have[name]; !ok {
			changed = append(changed, name)
		}
	}
	slices.Sort(changed)
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(held); err != nil {
		return nil, err
	}
	return changed, os.WriteFile(filepath.Join(root, reviewedPath), text.Bytes(), 0o644)
}
