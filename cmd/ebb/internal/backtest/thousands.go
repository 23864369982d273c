package backtest

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"ebb/stream"
	"ebb/stream/event"
)

// This file looks for points between thousands that were read as those before decimals: 1.867 may be either, and is refused as neither.

// leastThousands is how many amounts have to look like thousands for anything to be said.
const leastThousands = 3

var (
	// likeThousands is a number whose points may stand between its thousands. One below a thousand has none: 0.125 is a decimal.
	likeThousands = regexp.MustCompile(`^[-+]?[1-9][0-9]{0,2}(\.[0-9]{3})+$`)
	// ungrouped is a number that would have points if thousands were told apart.
	ungrouped = regexp.MustCompile(`^[-+]?[0-9]{4,}$`)
)

// thousands gathers what the amounts of tables look like.
type thousands struct {
	columns []string // where payments have their amounts, as far as a point in them is read as one before decimals
	amounts int
	like    int    // of them, like 1.867
	unlike  bool   // one of them at least is not written so: nothing is to be said
	example string // the first of them in an order of their own, so that that of the rows does not matter
}

// newThousands knows the columns of the amounts of payments.
func newThousands(feeds []stream.FeedConfig) *thousands {
	t := &thousands{}
	for _, f := range feeds {
		m := f.Mapping
		switch {
		case f.Feed != event.Payments || m != nil && (m.DecimalComma || m.CloudEvents):
			continue
		case m == nil || len(m.Fields) == 0:
			t.columns = append(t.columns, "amount")
		default:
			t.read(m.Fields["amount"])
		}
		if m != nil {
			for _, r := range m.Types {
				t.read(r.Fields["amount"])
			}
		}
	}
	slices.Sort(t.columns)
	t.columns = slices.Compact(t.columns)
	return t
}

// read notes the columns that a field of the mapping reads whole.
func (t *thousands) read(f event.Field) {
	for _, path := range append(slices.Clone(f.Paths), f.Minus) {
		if name := firstName(path); name != "" && strings.ReplaceAll(name, ".", `\.`) == path {
			t.columns = append(t.columns, name)
		}
	}
}

// in are the indexes of the columns among the names of a table.
func (t *thousands) in(names []string) []int {
	var at []int
	for i, name := range names {
		if slices.Contains(t.columns, name) {
			at = append(at, i)
		}
	}
	return at
}

// note takes in the text of an amount.
func (t *thousands) note(text string) {
	if t.unlike || text == "" {
		return
	}
	t.amounts++
	switch {
	case likeThousands.MatchString(text):
		t.like++
		if strings.Count(text, ".") == 1 && (t.example == "" || cmp.Or(cmp.Compare(len(text), len(t.example)), cmp.Compare(text, t.example)) < 0) {
			t.example = strings.Clone(text)
		}
	case ungrouped.MatchString(text), strings.Contains(text, ".") && !strings.Contains(text, ","):
		t.unlike = true
	}
}

// report is what is to be said of it, nil for nothing.
func (t *thousands) report() *ThousandsReport {
	if t.unlike || t.like < leastThousands || t.example == "" {
		return nil
	}
	return &ThousandsReport{Columns: t.columns, Amounts: t.amounts, Like: t.like, Example: t.example}
}

// Hint says what was read as what, and what to do if that is wrong.
func (t *ThousandsReport) Hint() string {
	units, decimals, _ := strings.Cut(t.Example, ".")
	return fmt.Sprintf("%d of %d amounts (%s) have three digits behind a point, and none another number of them: %s was read as %s and %s thousandths, not as %s%s. "+
		"If the point stands between thousands, set feeds.payments.mapping.decimal_comma to true.",
		t.Like, t.Amounts, strings.Join(t.Columns, ", "), t.Example, units, decimals, units, decimals)
}
