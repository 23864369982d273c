package backtest

import (
	"slices"

	"ebb/stream/event"
)

// Migration tells who moved between the levels of the pyramid of customers from one period of the history to the next. The levels are made of those who spent anything in the first
// period: the 1 % who spent most are top, the next 4 % large, the next 15 % middle, the others small. The amounts that divide them stay for the second period, so that
// a customer moves by his own spend, not by that of others.
type Migration struct {
	Days   int    `json:"days"` // of each period: a year, or half of a history of less than two
	First  string `json:"first_from"`
	Second string `json:"second_from"` // date, UTC, on which the first one is over
	// Least is from what spend in a period on a customer belongs to a level, of all but small.
	Least map[string]string `json:"least_spend"`
	Moves []Move            `json:"moves"`
}

// Move is how many customers went from one level to another, and what they spent.
type Move struct {
	From      string `json:"from"` // a level; "none": spent nothing; "new": was not there yet
	To        string `json:"to"`   // a level; "none": spent nothing
	Customers int    `json:"customers"`
	Before    string `json:"spend_before"` // in the first period
	After     string `json:"spend_after"`

	before, after event.Money
}

// The levels, and where else a customer may be. The order is that of the report.
const (
	levelTop = iota
	levelLarge
	levelMiddle
	levelSmall
	levelNone
	levelNew

	numLevels
)

var levelNames = [numLevels]string{"top", "large", "middle", "small", "none", "new"}

// levelShares are the shares of the customers down to the end of each level but the last.
var levelShares = [levelSmall]float64{levelTop: 0.01, levelLarge: 0.05, levelMiddle: 0.20}

const (
	// leastPeriod is how long a period must be, in days: shorter ones say how purchases fell.
	leastPeriod = 28
	mostPeriod  = 365
	// leastPyramid is how many customers must have spent something: below, the top level would be nobody.
	leastPyramid = 20
)

// migration compares the last two periods of the history, nil where they are too short or too few customers spent anything.
func (t *Truth) migration() *Migration {
	days := min(mostPeriod, (t.EndDay-t.FirstDay+1)/2)
	if days < leastPeriod {
		return nil
	}
	second := t.EndDay - days // the last day of the first period
	first := second - days
	var spends []event.Money
	for _, p := range t.list {
		if m := p.spent(first, second); m > 0 {
			spends = append(spends, m)
		}
	}
	if len(spends) < leastPyramid {
		return nil
	}
	slices.SortFunc(spends, func(a, b event.Money) int { return int(min(max(b-a, -1), 1)) })
	m := &Migration{Days: int(days), First: date(first + 1), Second: date(second + 1), Least: map[string]string{}}
	var least [levelSmall]event.Money
	for level, share := range levelShares {
		least[level] = spends[max(int(share*float64(len(spends))+0.5), 1)-1]
		m.Least[levelNames[level]] = least[level].String()
	}
	m.Moves = t.moves(first, second, &least)
	return m
}

func (t *Truth) moves(first, second int32, least *[levelSmall]event.Money) []Move {
	type sum struct {
		customers     int
		before, after event.Money
	}
	var sums [numLevels][numLevels]sum
	for _, p := range t.list {
		before, after := p.spent(first, second), p.spent(second, t.EndDay)
		from, to := level(before, least), level(after, least)
		if from == levelNone && len(p.days) != 0 && p.days[0].day > second {
			from = levelNew
		}
		if from == levelNone && to == levelNone {
			continue // not a customer of either period
		}
		s := &sums[from][to]
		s.customers++
		s.before, _ = s.before.Add(before)
		s.after, _ = s.after.Add(after)
	}
	var out []Move
	for from := range sums {
		for to, s := range sums[from] {
			if s.customers != 0 && (from != levelNew || to != levelNone) {
				out = append(out, Move{From: levelNames[from], To: levelNames[to], Customers: s.customers, Before: s.before.String(), After: s.after.String(), before: s.before, after: s.after})
			}
		}
	}
	return out
}

// level of a spend.
func level(spent event.Money, least *[levelSmall]event.Money) int {
	if spent <= 0 {
		return levelNone
	}
	for i, m := range least {
		if spent >= m {
			return i
		}
	}
	return levelSmall
}

// Levels are where a customer may be in the second period.
func (*Migration) Levels() []string { return levelNames[:levelNew] }

// Rows are the moves by the level from which they began.
func (m *Migration) Rows() []MigrationRow {
	var rows []MigrationRow
	for _, from := range levelNames {
		row := MigrationRow{From: from, Cells: make([]int, levelNew)}
		for _, x := range m.Moves {
			if x.From == from {
				row.Cells[slices.Index(levelNames[:], x.To)] = x.Customers
				row.Customers += x.Customers
				row.before, _ = row.before.Add(x.before)
				row.after, _ = row.after.Add(x.after)
			}
		}
		if row.Customers != 0 {
			row.Before, row.After = row.before.String(), row.after.String()
			rows = append(rows, row)
		}
	}
	return rows
}

// MigrationRow is where the customers of one level went.
type MigrationRow struct {
	From          string
	Customers     int
	Cells         []int
	Before, After string

	before, after event.Money
}
