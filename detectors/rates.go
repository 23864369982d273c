package detectors

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"ebb/stream/event"
)

// Rates converts amounts to the reporting currency by fixed rates. The arithmetic is exact but for one rounding, half to even
// at the fourth decimal, of each sum that is converted: sums are made in the original currency first.
type Rates struct {
	reporting event.Currency
	minor     int64 // minor unit of the reporting currency in 1/10000
	list      []rate
}

// rate is the value of one unit in the reporting currency: num/den.
type rate struct {
	currency event.Currency
	num, den int64
}

// maxRates bounds the table; ISO 4217 lists about 180 currencies.
const maxRates = 200

// NewRates makes a table of what one unit of each currency is worth in the reporting currency, as decimal numbers such as
// "0.92", above zero, of at most nine digits before and nine behind the point. Every fault is returned, joined.
func NewRates(reporting string, rates map[string]string) (*Rates, error) {
	t := &Rates{}
	var faults []error
	c, ok := event.ParseCurrency(reporting)
	if !ok {
		faults = append(faults, fmt.Errorf("reporting currency %q is no code of three letters, such as EUR", reporting))
	}
	t.reporting, t.minor = c, 1
	for range event.MoneyScale - c.Decimals() {
		t.minor *= 10
	}
	if len(rates) > maxRates {
		faults = append(faults, fmt.Errorf("%d rates; allowed is at most %d", len(rates), maxRates))
	}
	for name, text := range rates {
		c, ok := event.ParseCurrency(name)
		if !ok {
			faults = append(faults, fmt.Errorf("rate of %q: no code of three letters, such as USD", name))
			continue
		}
		r, err := parseRate(text)
		if err != nil {
			faults = append(faults, fmt.Errorf("rate of %s: %w", name, err))
			continue
		}
		if c == t.reporting && r.num != r.den {
			faults = append(faults, fmt.Errorf("rate of %s: it is the reporting currency, its rate is 1", name))
		}
		r.currency = c
		t.list = append(t.list, r)
	}
	if len(faults) != 0 {
		return nil, errors.Join(faults...)
	}
	slices.SortFunc(t.list, func(a, b rate) int { return bytes.Compare(a.currency[:], b.currency[:]) })
	return t, nil
}

// MustRates is NewRates for tables that are known to be good; it panics otherwise.
func MustRates(reporting string, rates map[string]string) *Rates {
	t, err := NewRates(reporting, rates)
	if err != nil {
		panic(err)
	}
	return t
}

func parseRate(s string) (rate, error) {
	bad := fmt.Errorf("%q is no rate: write a decimal number above 0, such as 0.92", s)
	whole, frac, _ := strings.Cut(strings.TrimSpace(s), ".")
	if whole == "" && frac == "" || len(whole) > 9 || len(frac) > 9 {
		return rate{}, bad
	}
	r := rate{den: 1}
	for i, part := range [2]string{whole, frac} {
		for _, c := range []byte(part) {
			if c < '0' || c > '9' {
				return rate{}, bad
			}
			r.num = r.num*10 + int64(c-'0')
			if i == 1 {
				r.den *= 10
			}
		}
	}
	if r.num == 0 {
		return rate{}, bad
	}
	for r.den > 1 && r.num%10 == 0 {
		r.num, r.den = r.num/10, r.den/10
	}
	return r, nil
}

// String tells the whole table, the same for tables that convert alike.
func (t *Rates) String() string {
	b := []byte(t.reporting.String())
	for _, r := range t.list {
		b = fmt.Appendf(b, " %s=%d/%d", r.currency, r.num, r.den)
	}
	return string(b)
}

// Currency returns the reporting currency.
func (t *Rates) Currency() event.Currency { return t.reporting }

// Convert returns an amount in the reporting currency, and false if the currency has no rate. An amount without a currency is
// in the reporting currency. A result that is too large is the largest amount.
func (t *Rates) Convert(c event.Currency, m event.Money) (event.Money, bool) {
	if c == t.reporting || c == (event.Currency{}) {
		return m, true
	}
	return t.convert(c, m)
}

func (t *Rates) convert(c event.Currency, m event.Money) (event.Money, bool) {
	for i := range t.list {
		if r := &t.list[i]; r.currency == c {
			v, ok := m.MulDiv(r.num, r.den)
			if !ok {
				return saturated(m > 0), true
			}
			return v, true
		}
	}
	return 0, false
}

// round makes whole minor units of a derived amount, half to even.
func (t *Rates) round(m event.Money) event.Money {
	v, _ := m.MulDiv(1, t.minor)
	r, ok := v.MulDiv(t.minor, 1)
	if !ok {
		return m
	}
	return r
}

func saturated(positive bool) event.Money {
	if positive {
		return math.MaxInt64
	}
	return -math.MaxInt64
}

// add is a sum that stops at the largest amount.
func add(a, b event.Money) event.Money {
	s := a + b
	if (a^s)&(b^s) < 0 {
		return saturated(a > 0)
	}
	return s
}
