package policy

import (
	"fmt"
	"math"
	"math/bits"
	"strings"

	"aoaigateway/handler/gateway"
)

// Price is the price of a model's tokens, in millionths of the currency per million tokens.
type Price struct {
	Input       int64
	CachedInput int64 // never more than Input
	Output      int64
}

// Of returns the cost of an answer in millionths of the currency, rounded up once.
// Reasoning tokens are part of the output. Tokens that are counted neither as prompt nor as
// completion have the higher of the two prices.
func (p Price) Of(u gateway.Usage) int64 {
	prompt, output := max(u.Prompt, 0), max(u.Completion, 0)
	cached := min(max(u.Cached, 0), prompt)
	other := max(u.Total-prompt-output, 0)
	var s sum
	s.add(prompt-cached, p.Input)
	s.add(cached, p.CachedInput)
	s.add(output, p.Output)
	s.add(other, max(p.Input, p.Output))
	return s.millionths()
}

// Most returns the most that a number of tokens can cost if at most output of them are
// output tokens; output 0 = all of them may be.
func (p Price) Most(tokens, output int64) int64 {
	if output <= 0 || output > tokens {
		output = tokens
	}
	var s sum
	s.add(tokens-output, p.Input)
	s.add(output, max(p.Input, p.Output))
	return s.millionths()
}

// sum is a sum of tokens × price in 128 bits.
type sum struct{ hi, lo uint64 }

func (s *sum) add(tokens, price int64) {
	hi, lo := bits.Mul64(uint64(max(tokens, 0)), uint64(max(price, 0)))
	var carry uint64
	s.lo, carry = bits.Add64(s.lo, lo, 0)
	s.hi, _ = bits.Add64(s.hi, hi, carry)
}

const million = 1_000_000

// millionths returns the sum divided by one million, because prices are per million tokens.
// If the result is too large for int64, it returns the largest int64.
func (s *sum) millionths() int64 {
	if s.hi >= million {
		return math.MaxInt64
	}
	quotient, rest := bits.Div64(s.hi, s.lo, million)
	if rest > 0 {
		quotient++
	}
	return int64(min(quotient, math.MaxInt64))
}

// Money is an amount of money, with the version of the price list that it was computed
// from.
type Money struct {
	Millionths   int64
	Currency     string
	PriceVersion string
}

// String returns the amount in readable form, such as "0.00123 USD".
func (m Money) String() string {
	return Decimal(m.Millionths) + " " + m.Currency
}

// Decimal returns millionths as a decimal number with two to six decimal places.
func Decimal(millionths int64) string {
	s := fmt.Sprintf("%d.%06d", millionths/million, millionths%million)
	short := strings.TrimRight(s, "0")
	if point := strings.IndexByte(s, '.'); len(short) < point+3 {
		return s[:point+3]
	}
	return short
}

// Cost returns the cost of an answer of a model; false = the policy has no price for the
// model.
func (p *Policy) Cost(u gateway.Usage, model string) (Money, bool) {
	m, _ := p.Model(model)
	if !m.Priced {
		return Money{}, false
	}
	return Money{Millionths: m.Price.Of(u), Currency: p.currency, PriceVersion: p.priceVersion}, true
}

// Currency returns the currency of all prices and limits on cost; empty = the policy has
// neither.
func (p *Policy) Currency() string { return p.currency }
