package policy_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"aoaigateway/handler/policy"
)

const schemaFile = "../../infra/policy.schema.json"

func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	s, err := jsonschema.NewCompiler().Compile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// plain turns a YAML node into what an editor's validator sees.
func plain(n *yaml.Node) any {
	switch n.Kind {
	case yaml.DocumentNode:
		return plain(n.Content[0])
	case yaml.AliasNode:
		return plain(n.Alias)
	case yaml.SequenceNode:
		list := []any{}
		for _, item := range n.Content {
			list = append(list, plain(item))
		}
		return list
	case yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			m[n.Content[i].Value] = plain(n.Content[i+1])
		}
		return m
	case yaml.ScalarNode:
	}
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!bool":
		return strings.EqualFold(n.Value, "true")
	case "!!int", "!!float":
		return json.Number(strings.ReplaceAll(n.Value, "_", ""))
	}
	return n.Value
}

func obeys(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil || len(doc.Content) == 0 {
		t.Fatalf("not YAML: %v", err)
	}
	return s.Validate(plain(&doc))
}

// judged are valid and invalid files, about which the schema and the parser must agree.
var judged = map[string]struct {
	text string
	good bool
}{
	"whole":              {whole, true},
	"least":              {"version: 1\nproducts: {a: {}}", true},
	"no version":         {"products: {a: {}}", false},
	"version":            {"version: 2\nproducts: {a: {}}", false},
	"version as text":    {"version: '1'\nproducts: {a: {}}", false},
	"a list":             {"- version: 1", false},
	"no products":        {"version: 1", false},
	"empty products":     {"version: 1\nproducts: {}", false},
	"null products":      {"version: 1\nproducts:", false},
	"unknown key":        {"version: 1\nproduct: {}\nproducts: {a: {}}", false},
	"null models":        {"version: 1\nmodels:\nproducts: {a: {}}", true},
	"product's name":     {"version: 1\nproducts: {a/b: {}}", false},
	"long name":          {"version: 1\nproducts: {a" + strings.Repeat("b", 64) + ": {}}", false},
	"null product":       {"version: 1\nproducts: {a: }", false},
	"unknown in product": {product("    maxTokens: 5"), false},
	"description":        {product("    description: 5"), false},
	"output cap":         {product("    maxOutputTokens: 1"), true},
	"output cap, none":   {product("    maxOutputTokens: 0"), false},
	"output cap, text":   {product("    maxOutputTokens: many"), false},
	"log none":           {product("    log: none"), true},
	"log some":           {product("    log: some"), false},
	"redact":             {product("    redact: [email, card, iban]"), true},
	"redact, none":       {product("    redact: []"), true},
	"redact, text":       {product("    redact: email"), false},
	"redact, twice":      {product("    redact: [card, card]"), false},
	"patterns":           {"version: 1\npatterns: {staff: 'E-[0-9]{6}'}\nproducts: {a: {redact: [staff]}}", true},
	"patterns, none":     {"version: 1\npatterns:\nproducts: {a: {}}", true},
	"pattern, number":    {"version: 1\npatterns: {staff: 5}\nproducts: {a: {}}", false},
	"pattern, empty":     {"version: 1\npatterns: {staff: ''}\nproducts: {a: {}}", false},
	"pattern, known":     {"version: 1\npatterns: {email: 'a@b'}\nproducts: {a: {}}", false},
	"pattern, long":      {"version: 1\npatterns: {a: '" + strings.Repeat("b", 1001) + "'}\nproducts: {a: {}}", false},
	"models":             {product("    models: [a, b]"), true},
	"models, star":       {product(`    models: ["*"]`), true},
	"models, text":       {product("    models: a"), false},
	"models, none":       {product("    models: []"), false},
	"models, pattern":    {product(`    models: ["a*"]`), false},
	"models, star + one": {product(`    models: ["*", a]`), false},
	"models, twice":      {product("    models: [a, a]"), false},
	"no limits":          {product("    limits: []"), true},
	"null limits":        {product("    limits:"), false},
	"limits as mapping":  {product("    limits: {tokens: 5, per: day}"), false},
	"each period": {product("    limits: [{tokens: 5, per: minute}, {tokens: 5, per: hour}, {tokens: 5, per: day}, " +
		"{tokens: 5, per: week}, {tokens: 5, per: month}, {tokens: 5, per: year}]"), true},
	"each counter key": {product("    limits: [{requests: 5, per: day, by: subscription}, {requests: 5, per: day, by: user}, " +
		"{requests: 5, per: day, by: product}, {requests: 5, per: day, by: model}, {requests: 5, per: day, by: ip}]"), true},
	"no unit":             {product("    limits: [{per: day}]"), false},
	"two units":           {product("    limits: [{tokens: 5, requests: 5, per: day}]"), false},
	"unit + concurrent":   {product("    limits: [{tokens: 5, concurrent: 5, per: day}]"), false},
	"no period":           {product("    limits: [{tokens: 5}]"), false},
	"wrong period":        {product("    limits: [{tokens: 5, per: fortnight}]"), false},
	"wrong counter key":   {product("    limits: [{tokens: 5, per: day, by: team}]"), false},
	"zero":                {product("    limits: [{tokens: 0, per: day}]"), false},
	"too much":            {product("    limits: [{tokens: 10000000000001, per: day}]"), false},
	"half a token":        {product("    limits: [{tokens: 1.5, per: day}]"), false},
	"name":                {product("    limits: [{name: a b, tokens: 5, per: day}]"), false},
	"name as number":      {product("    limits: [{name: 5, tokens: 5, per: day}]"), false},
	"hard as text":        {product("    limits: [{requests: 5, per: day, hard: sure}]"), false},
	"hard, no bound":      {product("    limits: [{tokens: 5, per: day, hard: true}]"), false},
	"hard":                {product("    maxOutputTokens: 4\n    limits: [{tokens: 5, per: day, hard: true}]"), true},
	"hard requests":       {product("    limits: [{requests: 5, per: day, hard: true}]"), true},
	"not hard":            {product("    limits: [{tokens: 5, per: day, hard: false}]"), true},
	"concurrent":          {product("    limits: [{concurrent: 5, by: user, hard: true}]"), true},
	"concurrent with per": {product("    limits: [{concurrent: 5, per: day}]"), false},
	"concurrent, none":    {product("    limits: [{concurrent: 0}]"), false},
	"cost":                {priced("price: {input: 0.000001, output: 9999999.999999}", "limits: [{cost: 0.5, per: day}]"), true},
	"cost, none":          {priced("price: {input: 1, output: 1}", "limits: [{cost: 0, per: day}]"), false},
	"cost, too fine":      {priced("price: {input: 1, output: 1}", "limits: [{cost: 0.0000005, per: day}]"), false},
	"cost, text":          {priced("price: {input: 1, output: 1}", "limits: [{cost: '5', per: day}]"), false},
	"cost, no currency":   {"version: 1\nmodels: {m: {price: {input: 1, output: 1}}}\nproducts: {a: {}}", false},
	"limit, no currency":  {"version: 1\nproducts: {a: {limits: [{cost: 1, per: day}]}, b: {}}", false},
	"cost, hard":          {priced("price: {input: 1, output: 1}", "limits: [{cost: 5, per: day, hard: true}]"), false},
	"cost, hard, bound":   {priced("price: {input: 1, output: 1}", "maxOutputTokens: 5, limits: [{cost: 5, per: day, hard: true}]"), true},
	"price, half":         {priced("price: {input: 1}", ""), false},
	"price, unknown":      {priced("price: {input: 1, output: 1, thinking: 1}", ""), false},
	"price, negative":     {priced("price: {input: -1, output: 1}", ""), false},
	"price, much":         {priced("price: {input: 10000000, output: 1}", ""), false},
	"currency":            {"version: 1\ncurrency: usd\nproducts: {a: {}}", false},
	"price version":       {"version: 1\npriceVersion: 2027-01-15\nproducts: {a: {}}", true},
	"price version, list": {"version: 1\npriceVersion: [a]\nproducts: {a: {}}", false},
	"model's name":        {"version: 1\nmodels: {a b: {}}\nproducts: {a: {}}", false},
	"model, text":         {"version: 1\nmodels: {a: big}\nproducts: {a: {}}", false},
	"model, unknown":      {priced("contextwindow: 5", ""), false},
	"window, none":        {priced("contextWindow: 0", ""), false},
	"timeout":             {priced("firstByteTimeout: 1m30s", ""), true},
	"timeout, number":     {priced("firstByteTimeout: 90", ""), false},
	"timeout, word":       {priced("firstByteTimeout: soon", ""), false},
	"hedge":               {priced("hedge: true", ""), true},
	"no hedge":            {priced("hedge: false", ""), true},
	"hedge, word":         {priced("hedge: sometimes", ""), false},
	"hedge, number":       {priced("hedge: 1", ""), false},
	"hedge, empty":        {priced("hedge: ", ""), false},
	"route":               {priced("regions: {r: {priority: 1, weight: 1000}}", ""), true},
	"no routes":           {priced("regions: ", ""), true},
	"route, empty":        {priced("regions: {r: {}}", ""), false},
	"route, null":         {priced("regions: {r: }", ""), false},
	"route, zero":         {priced("regions: {r: {weight: 0}}", ""), false},
	"route, much":         {priced("regions: {r: {weight: 1001}}", ""), false},
	"route, unknown":      {priced("regions: {r: {endpoint: x}}", ""), false},
}

// The schema judges as the parser does.
func TestSchemaMatchesParser(t *testing.T) {
	s := schema(t)
	for name, tc := range judged {
		_, perr := policy.Parse("p", []byte(tc.text))
		serr := obeys(t, s, tc.text)
		if (perr == nil) != tc.good {
			t.Errorf("%s: the parser says %v, want good %v", name, perr, tc.good)
		}
		if (serr == nil) != tc.good {
			t.Errorf("%s: the schema says %v, want good %v", name, serr, tc.good)
		}
	}
}

// A schema cannot express these rules, so the parser must.
func TestParserSeesMoreThanSchema(t *testing.T) {
	s := schema(t)
	for name, text := range map[string]string{
		"undeclared model":    "version: 1\nmodels: {b: {}}\nproducts: {a: {models: [c]}}",
		"unpriced model":      priced("", "limits: [{cost: 5, per: day}]"),
		"same limit twice":    product("    limits: [{tokens: 5, per: day}, {tokens: 6, per: day, name: b}]"),
		"too small for one":   product("    maxOutputTokens: 5\n    limits: [{tokens: 5, per: day, hard: true}]"),
		"dear cache":          priced("price: {input: 1, cachedInput: 2, output: 1}", ""),
		"model twice by case": "version: 1\nmodels: {b: {}, B: {}}\nproducts: {a: {}}",
		"undeclared pattern":  product("    redact: [staff]"),
		"no pattern":          "version: 1\npatterns: {staff: '('}\nproducts: {a: {}}",
		"greedy pattern":      "version: 1\npatterns: {staff: 'a*'}\nproducts: {a: {}}",
		"time-out too long":   priced("firstByteTimeout: 1h", ""),
	} {
		if _, err := policy.Parse("p", []byte(text)); err == nil {
			t.Errorf("%s: the parser accepts it", name)
		}
		if err := obeys(t, s, text); err != nil {
			t.Errorf("%s: the schema refuses it too; move it to the other table: %v", name, err)
		}
	}
}

// The shipped policy names its schema and obeys it.
func TestShippedPolicyObeysSchema(t *testing.T) {
	data, err := os.ReadFile("../../infra/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if first, _, _ := strings.Cut(string(data), "\n"); first != "# yaml-language-server: $schema=policy.schema.json" {
		t.Errorf("editors find no schema by the first line %q", first)
	}
	if err := obeys(t, schema(t), string(data)); err != nil {
		t.Error(err)
	}
}
