// Package policy reads the policy file: which models each product may use, and how much.
//
//	version: 1
//	currency: USD               # of all prices and cost limits; needed by both
//	priceVersion: 2027-01       # free text that stands beside every cost
//	models:                     # optional; if it has models, products may name no others
//	  gpt-4.1:
//	    price: {input: 2.00, cachedInput: 0.50, output: 8.00}   # per million tokens
//	    contextWindow: 1047576
//	    firstByteTimeout: 90s
//	    hedge: true             # a second region is asked when the first is late; both cost
//	    regions: {swedencentral: {priority: 1, weight: 3}}      # replaces only what is written here
//	patterns: {staff: 'E-[0-9]{6}'}   # RE2
//	products:
//	  default:
//	    description: free text
//	    models: ["*"]           # or deployment names; absent = all
//	    maxOutputTokens: 4096   # put into requests that name none; needed by hard limits on tokens and cost
//	    log: full               # or none: records have no prompts and answers
//	    redact: [email, staff]  # email, card, iban, or one of patterns: taken out of what is recorded
//	    limits:
//	      - {tokens: 100000, per: minute}
//	      - {name: budget, cost: 500.00, per: month, by: subscription, hard: true}
//	      - {concurrent: 20, by: user}
//
// The file is read strictly: unknown keys and limits that cannot be enforced are mistakes.
// All mistakes are reported together, with line and column. Editors find most of them with
// infra/policy.schema.json.
package policy

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Unit is what a limit counts.
type Unit string

// The units of a limit.
const (
	Tokens     Unit = "tokens"
	Requests   Unit = "requests"
	Cost       Unit = "cost"       // in millionths of the policy's currency
	Concurrent Unit = "concurrent" // requests in flight; it has no period
)

// Period is the length of the windows in which a limit counts. Windows begin and end at
// fixed UTC times.
type Period string

// The periods. Weeks are ISO weeks, which begin on Monday.
const (
	Minute Period = "minute"
	Hour   Period = "hour"
	Day    Period = "day"
	Week   Period = "week"
	Month  Period = "month"
	Year   Period = "year"
)

// Logging says how much of a request the record keeps.
type Logging string

// The values of Logging.
const (
	LogFull Logging = "full" // prompts and answers too; the default
	LogNone Logging = "none" // no prompts and no answers
)

// By says which requests of a product a limit counts together.
type By string

// The properties of a request that a limit can count by.
const (
	BySubscription By = "subscription" // the default
	ByUser         By = "user"
	ByProduct      By = "product" // all requests of the product together
	ByModel        By = "model"
	ByIP           By = "ip"
)

// Limit is one limit of a product.
type Limit struct {
	Name   string // unique in its product; clients see it in refusals
	Unit   Unit
	Amount int64
	Per    Period // empty for limits on concurrent requests
	By     By
	Hard   bool // must never be exceeded, so each request holds the most that it can use
}

// Product is a named set of models, limits and rules. Each subscription has a product.
type Product struct {
	Name            string
	Description     string
	Models          []string // "*" alone, or deployment names
	MaxOutputTokens int64    // written into requests without an output cap; 0 = nothing is written
	Log             Logging
	Redact          []Redaction
	Limits          []Limit
}

// Redaction is one kind of personal data that is removed from records.
type Redaction struct {
	Name    string         // email, card, iban, or the name of a pattern
	Pattern *regexp.Regexp // nil for email, card and iban
}

// Model is what the file declares about a model.
type Model struct {
	Name             string
	ContextWindow    int64         // tokens; 0 = unknown
	FirstByteTimeout time.Duration // 0 = the gateway's default
	Hedge            bool          // ask a second region when the first is later than usual
	Priced           bool          // the file has a price for the model; the price may be zero
	Price            Price
	Regions          map[string]Route // by name of the region
}

// Route replaces, for one model, the priority and weight that a region has in the settings.
type Route struct {
	Priority int // 0 = the region's priority from the settings
	Weight   int // 0 = the region's weight from the settings
}

// Policy is the content of a policy file. It does not change after Parse.
type Policy struct {
	products     map[string]Product
	models       map[string]Model // by lower-case name
	currency     string
	priceVersion string
}

// Product returns the product with this name; false = there is none.
func (p *Policy) Product(name string) (Product, bool) {
	found, ok := p.products[name]
	return found, ok
}

// Products returns all products, sorted by name.
func (p *Policy) Products() []Product {
	return slices.SortedFunc(maps.Values(p.products), func(a, b Product) int { return strings.Compare(a.Name, b.Name) })
}

// Model returns what the file declares about a model; false = nothing. As in Azure, the
// case of names does not matter.
func (p *Policy) Model(name string) (Model, bool) {
	found, ok := p.models[strings.ToLower(name)]
	return found, ok
}

// Models returns all declared models, sorted by name.
func (p *Policy) Models() []Model {
	return slices.SortedFunc(maps.Values(p.models), func(a, b Model) int { return strings.Compare(a.Name, b.Name) })
}

// Allows reports whether the product may use the model or deployment with this name.
func (p Product) Allows(model string) bool {
	return slices.ContainsFunc(p.Models, func(m string) bool { return m == "*" || strings.EqualFold(m, model) })
}

// HardTokens reports whether the product has a hard limit on tokens or cost. If so, the
// gateway admits only requests whose tokens have a known upper bound.
func (p Product) HardTokens() bool {
	return slices.ContainsFunc(p.Limits, func(l Limit) bool { return l.Hard && (l.Unit == Tokens || l.Unit == Cost) })
}

// LimitsCost reports whether the product has a limit on cost. If so, every model that it
// may use needs a price.
func (p Product) LimitsCost() bool {
	return slices.ContainsFunc(p.Limits, func(l Limit) bool { return l.Unit == Cost })
}
