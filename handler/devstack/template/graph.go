package template

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Graph is the deployment as a Mermaid flowchart: an arrow leads from a module to one that
// waits for it; dashed boxes are made in private only.
func Graph(all templates) string {
	var b strings.Builder
	b.WriteString("flowchart LR\n    group[[resource group]]\n")
	main := all["main.bicep"]
	var edges, private []string
	for _, d := range main.Declarations {
		if d.Kind != "module" {
			continue
		}
		label := d.Target
		if d.Value.Kind == "for" {
			label += map[bool]string{true: "<br/>one a region", false: "<br/>one an account"}[strings.Contains(d.Value.Text, " in regions:")]
		}
		if d.Value.Kind == "if" || d.Value.Kind == "for" && d.Value.Items[0].Kind == "if" {
			private = append(private, d.Name)
		}
		fmt.Fprintf(&b, "    %s[%s]\n", d.Name, label)
		edges = append(edges, "group --> "+d.Name)
		for _, other := range main.Declarations {
			if other.Kind == "module" && other.Name != d.Name && refers(d.Value, other.Name) {
				edges = append(edges, other.Name+" --> "+d.Name)
			}
		}
		edges = append(edges, linksOf(all, &d, &b)...)
	}
	for _, e := range edges {
		b.WriteString("    " + e + "\n")
	}
	fmt.Fprintf(&b, "    classDef private stroke-dasharray: 5 5\n    class %s private\n",
		strings.Join(append(private, linkNodes(all)...), ","))
	return b.String()
}

// linksOf are the private endpoints that a module makes.
func linksOf(all templates, d *declaration, b *strings.Builder) (edges []string) {
	for _, inner := range all[d.Target].Declarations {
		if inner.Kind == "module" && inner.Target == "link.bicep" {
			node := linkNode(d.Target, &inner)
			fmt.Fprintf(b, "    %s([link.bicep<br/>%s])\n", node, inner.body().at("params", "groupId").text())
			edges = append(edges, d.Name+" -.-> "+node)
		}
	}
	return edges
}

func linkNode(file string, d *declaration) string {
	return strings.TrimSuffix(file, ".bicep") + "_" + d.Name
}

func linkNodes(all templates) (nodes []string) {
	all.each("module", func(f *file, d *declaration) {
		if d.Target == "link.bicep" && f.path != "infra/main.bicep" { // those of main are modules of their own
			nodes = append(nodes, linkNode(filepath.Base(f.path), d))
		}
	})
	return nodes
}

func refers(e *expr, module string) bool {
	if !strings.Contains(e.text(), module) {
		return false
	}
	use, found := regexp.MustCompile(`\b`+module+`\b(\.\??outputs|$)`), false
	e.walk(func(e *expr) {
		switch e.Kind {
		case "identifier", "member_expression", "binary_expression", "template":
			found = found || use.MatchString(e.Text)
		}
	})
	return found
}

const graphMark = "<!-- deployment -->"

// checkGraph: the README shows the graph as it is.
func checkGraph(root string, all templates) []Finding {
	const path = "infra/README.md"
	data, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		return []Finding{{path, 0, err.Error()}}
	}
	if !slices.Contains(strings.Split(string(data), "\n"), graphMark) || !strings.Contains(string(data), graphSection(all)) {
		return []Finding{{
			path, 0,
			"its graph of the deployment is not that of infra/main.bicep; run: go test ./handler/devstack/template -update",
		}}
	}
	_, deploy, _ := strings.Cut(string(data), "\n## Deploy\n")
	deploy, _, _ = strings.Cut(deploy, "\n## ")
	if n := strings.Count(deploy, "\n"); n == 0 || n > mostDeployLines {
		return []Finding{{path, 0, fmt.Sprintf("its section Deploy has %d lines; at most %d", n, mostDeployLines)}}
	}
	return nil
}

// mostDeployLines is how much somebody new must read before the first request.
const mostDeployLines = 80

func graphSection(all templates) string {
	return graphMark + "\n```mermaid\n" + Graph(all) + "```\n<!-- /deployment -->"
}
