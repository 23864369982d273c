package console

import (
	"net/url"
	"strings"
)

// Filter leaves a part of the queue. Its form in an address is a query, so that a filtered list can be sent to a colleague.
type Filter struct {
	Detector, Tier, Segment, Owner, Region, Severity, Step string
	// Text is looked for in the customer's id, the sentence and the owner, without regard to case.
	Text string
}

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

func parseFilter(q url.Values) Filter {
	text := strings.TrimSpace(q.Get("q"))
	if len(text) > textMax {
		text = text[:textMax]
	}
	return Filter{
		Detector: q.Get("detector"), Tier: q.Get("tier"), Segment: q.Get("segment"), Owner: q.Get("owner"), Region: q.Get("region"),
		Severity: q.Get("severity"), Step: q.Get("step"), Text: text,
	}
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

// query is the filter as an address's query, in a fixed order, empty ones left out.
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
	return q
}

func (f *Filter) active() bool { return *f != Filter{} }

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
