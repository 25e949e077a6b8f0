// Package policy reads the policy file: which models each product may use, and what it
// may use of them.
//
//	version: 1
//	models:                     # optional; when it names models, products may name no others
//	  gpt-4.1: {contextWindow: 1047576, firstByteTimeout: 90s}
//	products:
//	  default:
//	    description: free text
//	    models: ["*"]           # or deployment names; absent = all
//	    maxOutputTokens: 4096   # put into requests that name none; needed by hard token limits
//	    limits:
//	      - {tokens: 100000, per: minute}
//	      - {name: budget, tokens: 50000000, per: month, by: subscription, hard: true}
//
// The file is read strictly: what is not understood, or could not be kept, is a mistake
// with its line and column, and all mistakes are reported together.
package policy

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// Unit is what a limit counts.
type Unit string

// The units of a limit.
const (
	Tokens   Unit = "tokens"
	Requests Unit = "requests"
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

// By says who shares one counter of a limit. Every counter belongs to one product.
type By string

// The scopes of a limit.
const (
	BySubscription By = "subscription" // the default
	ByUser         By = "user"
	ByProduct      By = "product" // all callers of the product together
	ByModel        By = "model"
	ByIP           By = "ip"
)

// Limit is one line of a product's limits.
type Limit struct {
	Name   string // unique in its product; clients see it when it refuses
	Unit   Unit
	Amount int64
	Per    Period
	By     By
	Hard   bool // never exceeded, at the price of holding an upper bound before each request
}

// Product is what a subscription is for: models and limits.
type Product struct {
	Name            string
	Description     string
	Models          []string // "*" alone, or deployment names
	MaxOutputTokens int64    // 0 = requests without a cap stay without
	Limits          []Limit
}

// Model is what the gateway must know about a model beyond its name.
type Model struct {
	Name             string
	ContextWindow    int64         // tokens; 0 = unknown
	FirstByteTimeout time.Duration // 0 = the gateway's own
}

// Policy is a whole file. It is never changed after Parse.
type Policy struct {
	products map[string]Product
	models   map[string]Model // by lower-case name
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

// Model returns what the file says about a model; names differ not by case, as in Azure.
func (p *Policy) Model(name string) (Model, bool) {
	found, ok := p.models[strings.ToLower(name)]
	return found, ok
}

// Allows tells whether the product may use the model or deployment of that name.
func (p Product) Allows(model string) bool {
	return slices.ContainsFunc(p.Models, func(m string) bool { return m == "*" || strings.EqualFold(m, model) })
}

// HardTokens tells whether a hard limit on tokens applies: then only requests whose
// tokens have a known bound can be let through.
func (p Product) HardTokens() bool {
	return slices.ContainsFunc(p.Limits, func(l Limit) bool { return l.Hard && l.Unit == Tokens })
}
