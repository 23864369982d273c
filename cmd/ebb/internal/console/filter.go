package console

import (
	"net/url"
	"strings"
	"time"
)

// Filter leaves a part of the queue. Its form in an address is a query, so that a filtered list can be sent to a colleague.
type Filter struct {
	Detector, Tier, Segment, Owner, Region, Severity, Step string
	// Text is looked for in the customer's id, the sentence and the owner, without regard to case.
	Text string
	// Snoozed says what becomes of alerts that somebody has put off; empty: they stand among the others.
	Snoozed Snoozed
	// Order is how the queue is sorted; empty: by money at risk.
	Order Order
}

// Snoozed is what becomes of the alerts that are snoozed now.
type Snoozed string

// What can become of them. SnoozedShown is the zero value; the page hides them unless its address says otherwise.
const (
	SnoozedShown  Snoozed = ""
	SnoozedHidden Snoozed = "hide"
	SnoozedOnly   Snoozed = "only"
)

// snoozedShow is how an address asks for SnoozedShown.
const snoozedShow = "show"

// Order is an order of the queue.
type Order string

// The orders: most money at risk first, or what fired last first.
const (
	ByRisk Order = ""
	Newest Order = "newest"
)

// Facet is one value that the queue can be filtered by, and how many open alerts have it.
type Facet struct {
	Value string
	Count int
}

func facetNames() []string {
	return []string{"detector", "severity", "tier", "segment", "region", "owner", "step"}
}

func facetValue(a *Alert, name string) string {
	switch name {
	case "detector":
		return a.Detector
	case "severity":
		return a.Severity.String()
	case "tier":
		return a.Tier
	case "segment":
		return a.Segment
	case "region":
		return a.Region
	case "owner":
		return a.Owner
	case "step":
		return a.Kind
	}
	return ""
}

// textMax bounds what is looked for.
const textMax = 200

// parseFilter reads a filter from an address's query. snoozed is what becomes of snoozed alerts where the address does not say.
func parseFilter(q url.Values, snoozed Snoozed) Filter {
	order := ByRisk
	if q.Get("order") == string(Newest) {
		order = Newest
	}
	text := strings.TrimSpace(q.Get("q"))
	if len(text) > textMax {
		text = strings.ToValidUTF8(text[:textMax], "") // no half of a sign at the end
	}
	return Filter{
		Detector: q.Get("detector"), Tier: q.Get("tier"), Segment: q.Get("segment"), Owner: q.Get("owner"), Region: q.Get("region"),
		Severity: q.Get("severity"), Step: q.Get("step"), Text: text,
		Snoozed: parseSnoozed(q.Get("snoozed"), snoozed), Order: order,
	}
}

// parseSnoozed reads what an address says of snoozed alerts: show, hide or only; otherwise is taken where it says nothing of the kind.
func parseSnoozed(word string, otherwise Snoozed) Snoozed {
	switch word {
	case snoozedShow:
		return SnoozedShown
	case string(SnoozedHidden), string(SnoozedOnly):
		return Snoozed(word)
	}
	return otherwise
}

// value is what the filter asks of one facet; empty: anything.
func (f *Filter) value(name string) string {
	switch name {
	case "detector":
		return f.Detector
	case "severity":
		return f.Severity
	case "tier":
		return f.Tier
	case "segment":
		return f.Segment
	case "region":
		return f.Region
	case "owner":
		return f.Owner
	case "step":
		return f.Step
	}
	return ""
}

// query is the filter as the query of the page's address, in a fixed order; what is empty, or as the page has it anyway, is left out.
func (f *Filter) query() url.Values {
	q := url.Values{}
	for _, name := range facetNames() {
		if v := f.value(name); v != "" {
			q.Set(name, v)
		}
	}
	if f.Text != "" {
		q.Set("q", f.Text)
	}
	switch f.Snoozed {
	case SnoozedShown:
		q.Set("snoozed", snoozedShow)
	case SnoozedOnly:
		q.Set("snoozed", string(SnoozedOnly))
	case SnoozedHidden:
	}
	if f.Order != ByRisk {
		q.Set("order", string(f.Order))
	}
	return q
}

// active reports whether the filter asks for something of the alerts themselves.
func (f *Filter) active() bool { return *f != f.manner() }

// manner is the filter without what it asks of the alerts themselves: how the list is sorted, and what becomes of snoozed ones.
func (f *Filter) manner() Filter { return Filter{Snoozed: f.Snoozed, Order: f.Order} }

// admits reports whether an alert is shown, as far as it is snoozed or not at event time now.
func (s Snoozed) admits(a *Alert, now time.Time) bool {
	switch s {
	case SnoozedHidden:
		return !a.SnoozedAt(now)
	case SnoozedOnly:
		return a.SnoozedAt(now)
	case SnoozedShown:
	}
	return true
}

// match reports whether an alert is as the filter asks, snoozed or not.
func (f *Filter) match(a *Alert) bool {
	is := func(want, have string) bool { return want == "" || want == have }
	return is(f.Detector, a.Detector) && is(f.Tier, a.Tier) && is(f.Segment, a.Segment) && is(f.Owner, a.Owner) &&
		is(f.Region, a.Region) && is(f.Severity, a.Severity.String()) && is(f.Step, a.Kind) &&
		(f.Text == "" || contains(a.Customer, f.Text) || contains(a.Summary, f.Text) || contains(a.Owner, f.Text))
}

func contains(s, part string) bool {
	if len(part) > len(s) {
		return false
	}
	return strings.Contains(strings.ToLower(s), strings.ToLower(part))
}
