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
// The file is read strictly: anything unknown, and any limit that cannot be enforced, is a
// mistake with its line and column, and all mistakes are reported together.
// infra/policy.schema.json tells editors the same, as far as a schema can.
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

// Period is the window a limit counts in, by UTC time.
type Period string

// The windows of a limit. Weeks are ISO weeks: they begin on Monday.
const (
	Minute Period = "minute"
	Hour   Period = "hour"
	Day    Period = "day"
	Week   Period = "week"
	Month  Period = "month"
	Year   Period = "year"
)

// Logging says how much of a request is recorded.
type Logging string

// The logging rules of a product.
const (
	LogFull Logging = "full" // the default
	LogNone Logging = "none" // metadata only: no prompts, no answers
)

// By says which requests share one counter of a limit. Every counter belongs to one product.
type By string

// The properties of a request that a limit can count by.
const (
	BySubscription By = "subscription" // the default
	ByUser         By = "user"
	ByProduct      By = "product" // all callers of the product together
	ByModel        By = "model"
	ByIP           By = "ip"
)

// Limit is one line of a product's limits.
type Limit struct {
	Name   string // unique in its product; refusals show it to clients
	Unit   Unit
	Amount int64
	Per    Period // empty for Concurrent
	By     By
	Hard   bool // never exceeded; each request holds an upper bound
}

// Product is what a subscription is for: models and limits.
type Product struct {
	Name            string
	Description     string
	Models          []string // "*" alone, or deployment names
	MaxOutputTokens int64    // 0 = requests without a cap get none
	Log             Logging
	Redact          []Redaction
	Limits          []Limit
}

// Redaction is one kind of personal data that is removed from records.
type Redaction struct {
	Name    string         // email, card, iban, or a pattern's
	Pattern *regexp.Regexp // nil for the first three
}

// Model is what the file says about a model.
type Model struct {
	Name             string
	ContextWindow    int64         // tokens; 0 = unknown
	FirstByteTimeout time.Duration // 0 = the gateway's default
	Hedge            bool          // ask a second region when the first is later than usual
	Priced           bool          // Price was given; it may be all zero
	Price            Price
	Regions          map[string]Route // by region's name
}

// Route replaces, for one model, what the settings say about a region.
type Route struct {
	Priority int // 0 = as the settings say
	Weight   int // likewise
}

// Policy is a whole file. It is never changed after Parse.
type Policy struct {
	products     map[string]Product
	models       map[string]Model // by lower-case name
	currency     string
	priceVersion string
}

// Product returns the product of that name.
func (p *Policy) Product(name string) (Product, bool) {
	found, ok := p.products[name]
	return found, ok
}

// Products returns all products, by name.
func (p *Policy) Products() []Product {
	return slices.SortedFunc(maps.Values(p.products), func(a, b Product) int { return strings.Compare(a.Name, b.Name) })
}

// Model returns what the file says about a model. As in Azure, case is ignored.
func (p *Policy) Model(name string) (Model, bool) {
	found, ok := p.models[strings.ToLower(name)]
	return found, ok
}

// Models returns all models the file declares, by name.
func (p *Policy) Models() []Model {
	return slices.SortedFunc(maps.Values(p.models), func(a, b Model) int { return strings.Compare(a.Name, b.Name) })
}

// Allows reports whether the product may use the model or deployment of that name.
func (p Product) Allows(model string) bool {
	return slices.ContainsFunc(p.Models, func(m string) bool { return m == "*" || strings.EqualFold(m, model) })
}

// HardTokens reports whether the product has a hard limit on tokens or on their cost. Then
// only requests whose tokens have a known bound can be admitted.
func (p Product) HardTokens() bool {
	return slices.ContainsFunc(p.Limits, func(l Limit) bool { return l.Hard && (l.Unit == Tokens || l.Unit == Cost) })
}

// LimitsCost reports whether the product has a limit on cost. Then every model that it may
// use needs a price.
func (p Product) LimitsCost() bool {
	return slices.ContainsFunc(p.Limits, func(l Limit) bool { return l.Unit == Cost })
}
