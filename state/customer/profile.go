package customer

import "ebb/stream/event"

// applyProfile replaces the profile by a newer one. A changed time zone acts from the next local day, so that the days that
// are counted already keep their meaning.
func (r *Record) applyProfile(e *event.Event, p *Params) Outcome {
	if e.Profile == nil {
		return NotForRecords
	}
	x := r.rarely()
	at := max(e.Time, 1)
	if at < x.profileAt {
		return StaleProfile
	}
	was := x.profile.Tier
	x.profileAt = at
	x.profile = *e.Profile
	r.tendency = tendency{}
	clip(&x.profile)
	if p.Tiers != nil {
		r.noteTier(was, x.profile.Tier, at, p)
	}
	if r.rhythms != nil {
		r.rhythms.plan = Plan{} // another time zone, or others to be compared with
	}
	return r.moveTo(x.profile.TimeZone, at, p)
}

// moveTo makes a zone the customer's own. Without earlier events it holds from the beginning.
func (r *Record) moveTo(name string, at int64, p *Params) Outcome {
	x := r.rare
	var out Outcome
	if name != "" && !p.Calendar.Known(name) {
		name, out = "", UnknownZone
	}
	if r.First == 0 {
		x.zone, x.nextZone, x.nextFrom = name, "", 0
		return out
	}
	// The change takes place after everything that is counted already, also for a profile that is told late.
	at = max(at, r.Latest)
	if x.nextFrom != 0 && at >= x.nextFrom {
		x.zone, x.nextZone, x.nextFrom = x.nextZone, "", 0
	}
	if name == x.zone {
		x.nextZone, x.nextFrom = "", 0
		return out
	}
	if x.nextFrom != 0 && name == x.nextZone {
		return out
	}
	x.nextZone, x.nextFrom = name, p.Calendar.StartOf(r, p.Calendar.DayOf(r, at)+1, at)
	return out
}

// Zone returns the name of the customer's own time zone at a time, "" for the default one.
func (r *Record) Zone(at int64) string {
	if r.rare == nil {
		return ""
	}
	if r.rare.nextFrom != 0 && at >= r.rare.nextFrom {
		return r.rare.nextZone
	}
	return r.rare.zone
}

// maxText is the longest text of a profile that is kept, in bytes. Longer ones are cut at a character's boundary.
const maxText = 256

// clip bounds the texts of a profile and drops what nothing reads.
func clip(p *event.Profile) {
	for _, s := range profileTexts(p) {
		*s = cut(*s)
	}
}

// profileTexts lists the texts of a profile in the order of the stored form; new ones are added at the end.
func profileTexts(p *event.Profile) [11]*string {
	return [11]*string{
		&p.Tier, &p.Segment, &p.Region, &p.Owner, &p.Product, &p.Plan, &p.Source, &p.Status, &p.TimeZone, &p.Language, &p.Schedule,
	}
}

func cut(s string) string { return cutTo(s, maxText) }

// cutTo is the longest beginning of a text of at most n bytes, cut at a character's boundary.
func cutTo(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n]
}
