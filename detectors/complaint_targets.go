package detectors

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"ebb/detectors/hours"
	"ebb/state/customer"
	"ebb/stream/event"
)

// TargetRule gives complaints of a priority, of customers of a tier, or both, time limits of their own.
type TargetRule struct {
	// For complaints of this priority only: low, normal, high, urgent or critical. Left out: for every one.
	Priority string `yaml:"priority"`
	// For customers of this tier only. Left out: for every one.
	Tier string `yaml:"tier"`
	// Within what time somebody has to respond. Left out: as if there were no rule.
	FirstResponse *Target `yaml:"first_response"`
	// Within what time somebody has to answer when the customer has written again.
	NextReply *Target `yaml:"next_reply"`
	// Within what time the complaint has to be resolved.
	Resolution *Target `yaml:"resolution"`
	// Name of the calendar whose hours count.
	Calendar string `yaml:"calendar"`
}

// maxTargetRules bounds the list: it is searched for every complaint.
const maxTargetRules = 200

// targets is what one complaint is measured by, times in milliseconds of working time.
type targets struct {
	first, next, resolution limit
	calendar                *hours.Calendar // nil: around the clock
}

// limit is a time limit that may be off.
type limit struct {
	ms int64
	on bool
}

func limitOf(t Target) limit {
	ms, on := t.Limit()
	return limit{ms, on}
}

// targetsOf finds the targets of a complaint. Of the rules that fit, one for priority and tier goes before one for the tier, that before one for the
// priority, and the first of two alike; each says what it says, and leaves the rest to the others and to the plain tables. The calendar is that of the rules, else the one
// that the customer's schedule names, else the detector's.
func (d *complaintUnresolved) targetsOf(r *customer.Record, c *customer.Complaint) targets {
	t := targets{first: limitOf(*d.cfg.FirstResponse.at(c.Priority)), next: limitOf(*d.cfg.NextReply.at(c.Priority)), resolution: limitOf(*d.cfg.Resolution.at(c.Priority))}
	if c.Case.Inquiry {
		t = targets{first: limitOf(d.cfg.Inquiry)}
	}
	tier, schedule := "", ""
	if p := r.Profile(); p != nil {
		tier, schedule = p.Tier, p.Schedule
	}
	calendar := ""
	for _, rule := range d.rules { // the most specific last
		if rule.Tier != "" && rule.Tier != tier || rule.Priority != "" && rule.priority != c.Priority {
			continue
		}
		if rule.Calendar != "" {
			calendar = rule.Calendar
		}
		if c.Case.Inquiry {
			continue // it has no priority, and one target
		}
		for _, x := range [...]struct {
			from *Target
			to   *limit
		}{{rule.FirstResponse, &t.first}, {rule.NextReply, &t.next}, {rule.Resolution, &t.resolution}} {
			if x.from != nil {
				*x.to = limitOf(*x.from)
			}
		}
	}
	switch own, known := d.calendars[schedule]; {
	case calendar != "":
		t.calendar = d.calendars[calendar]
	case known:
		t.calendar = own
	default:
		t.calendar = d.calendars[d.cfg.Calendar]
	}
	return t
}

// targetRule is a TargetRule that has been read.
type targetRule struct {
	TargetRule
	priority event.Priority
}

func (r *TargetRule) weight() int {
	w := 0
	if r.Priority != "" {
		w++
	}
	if r.Tier != "" {
		w += 2
	}
	return w
}

// rulesOf puts the rules into the order in which they are applied: the later goes before the earlier.
func rulesOf(list []TargetRule) []targetRule {
	rules := make([]targetRule, 0, len(list))
	for i := len(list) - 1; i >= 0; i-- {
		p, _ := event.ParsePriority(list[i].Priority)
		rules = append(rules, targetRule{list[i], p})
	}
	slices.SortStableFunc(rules, func(a, b targetRule) int { return a.weight() - b.weight() })
	return rules
}

// at is the target of a priority.
func (t *Targets) at(p event.Priority) *Target {
	switch p {
	case event.PriorityLow:
		return &t.Low
	case event.PriorityHigh:
		return &t.High
	case event.PriorityUrgent:
		return &t.Urgent
	case event.PriorityCritical:
		return &t.Critical
	default:
		return &t.Normal
	}
}

func (c *ComplaintUnresolvedConfig) validateTargets(f *faults, calendars map[string]*hours.Calendar, tiers []string) {
	const at = ComplaintUnresolvedName + "."
	within := func(field string, t Target) {
		if ms, on := t.Limit(); on && ms >= c.ExpireAfter.Ms() {
			f.add(at+field, "is %s; allowed is less than expire_after, %s", millis(ms), c.ExpireAfter)
		}
	}
	for _, clock := range []struct {
		name string
		t    *Targets
	}{{"first_response", &c.FirstResponse}, {"next_reply", &c.NextReply}, {"resolution", &c.Resolution}} {
		for p := event.PriorityLow; p <= event.PriorityCritical; p++ {
			within(clock.name+"."+p.String(), *clock.t.at(p))
		}
	}
	within("inquiry", c.Inquiry)
	known := slices.Sorted(maps.Keys(calendars))
	calendar := func(field, name string) {
		if _, ok := calendars[name]; name != "" && !ok {
			mend := "allowed is one of calendars: " + strings.Join(known, ", ")
			if len(known) == 0 {
				mend = "none is defined; add it to calendars"
			}
			f.add(at+field, "%q is no calendar; %s", name, mend)
		}
	}
	calendar("calendar", c.Calendar)
	if len(c.Targets) > maxTargetRules {
		f.add(at+"targets", "has %d rules; allowed is 0 to %d", len(c.Targets), maxTargetRules)
	}
	for i := range c.Targets {
		rule, field := &c.Targets[i], fmt.Sprintf("targets[%d]", i)
		if _, ok := event.ParsePriority(rule.Priority); rule.Priority != "" && !ok {
			f.add(at+field+".priority", "is %q; allowed is low, normal, high, urgent or critical", rule.Priority)
		}
		if rule.Tier != "" && len(tiers) != 0 && !slices.Contains(tiers, rule.Tier) {
			f.add(at+field+".tier", "%q is no tier; allowed is one of tiers: %s", rule.Tier, strings.Join(tiers, ", "))
		}
		calendar(field+".calendar", rule.Calendar)
		for name, t := range map[string]*Target{"first_response": rule.FirstResponse, "next_reply": rule.NextReply, "resolution": rule.Resolution} {
			if t != nil {
				within(field+"."+name, *t)
			}
		}
	}
}
