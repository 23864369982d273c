package alerts

import (
	"ebb/detectors"
	"ebb/state/customer"
)

// A complaint and a drop of the same customer at the same time are one alert. What comes later is told within what is open: that alert is changed, is a degree
// more severe, and names both. The guest has a lifecycle of its own, so that its detector goes on as ever, but it is not told. When its host is over it is told by
// itself, with what people did so far; when a person closes the host, the guest is closed too: the person knew of both.

// hostFor is the index of the open alert within which the one of index i is to be told: of those of the opposite kind the one that fired first. -1: there is none.
func (p *Policy) hostFor(r *customer.Record, i int, mode Mode) int {
	if !p.cfg.Together {
		return -1
	}
	best, kin := -1, p.cfg.Detectors.Kin(r.Lifecycles[i].Detector)
	for k := range r.Lifecycles {
		h := &r.Lifecycles[k]
		switch {
		case k == i, h.Guest(), h.Unpublished && mode != Quiet, !kin.Opposite(p.cfg.Detectors.Kin(h.Detector)), p.swept(r, h) != "":
		case best < 0 || h.FiredAt < r.Lifecycles[best].FiredAt:
			best = k
		}
	}
	return best
}

// join makes the alert of index i a guest of that of index k, and appends the step of the host.
func (p *Policy) join(r *customer.Record, i, k int, env *detectors.Env, out []Step) []Step {
	l, h := &r.Lifecycles[i], &r.Lifecycles[k]
	l.Host, l.Unpublished = h.AlertID, true
	h.Severity = max(h.Severity, aggravated(h.Severity, l.Severity))
	h.AtRisk = max(h.AtRisk, l.AtRisk)
	if h.Unpublished {
		return out
	}
	p.foretell(r, env, l)
	at := max(l.FiredAt, l.ChangedAt)
	if n := len(out); n != 0 && out[n-1].AlertID == h.AlertID && out[n-1].Kind == StepFired && out[n-1].At >= at { // nobody has been told yet: it is one step
		out[n-1].Severity, out[n-1].signal.Severity, out[n-1].signal.AtRisk = Severity(h.Severity), Severity(h.Severity), h.AtRisk
		return out
	}
	return append(out, p.changed(h, at))
}

// aggravated is the severity of two alerts that are told as one.
func aggravated(a, b uint8) uint8 { return min(max(a, b)+1, uint8(Critical)) }

// changed is the step that tells anew what an alert holds, as of an event time.
func (p *Policy) changed(h *customer.Lifecycle, at int64) Step {
	h.ChangedAt = max(at, h.ChangedAt)
	h.Revision++
	s := p.held(h)
	s.At = h.ChangedAt
	return step(StepChanged, h, &s)
}

// worse takes the risen severity of the guest of index i to its host.
func (p *Policy) worse(r *customer.Record, i int, out []Step) []Step {
	k := r.Host(i)
	if k < 0 {
		return out
	}
	l, h := &r.Lifecycles[i], &r.Lifecycles[k]
	h.AtRisk = max(h.AtRisk, l.AtRisk)
	severity := aggravated(l.Severity, l.Severity)
	if severity <= h.Severity {
		return out
	}
	if h.Severity = severity; h.Unpublished {
		return out
	}
	return append(out, p.changed(h, l.ChangedAt))
}

// parted tells in its host that a guest is over, at an event time. The guest is out of the record.
func (p *Policy) parted(r *customer.Record, l *customer.Lifecycle, at int64, out []Step) []Step {
	for k := range r.Lifecycles {
		if h := &r.Lifecycles[k]; h.AlertID == l.Host && !h.Unpublished && p.swept(r, h) == "" {
			return append(out, p.changed(h, at))
		}
	}
	return out
}

// handOver gives the guests of an alert that ends what people did about it.
func handOver(r *customer.Record, h *customer.Lifecycle) {
	for i := range r.Lifecycles {
		if l := &r.Lifecycles[i]; l.Host == h.AlertID && l.Guest() && l.Work == nil {
			l.Work = h.Work
		}
	}
}

// orphans tells the guests whose host is over: within another alert if there is one, else by themselves.
func (p *Policy) orphans(r *customer.Record, env *detectors.Env, mode Mode, out []Step) []Step {
	for i := range r.Lifecycles {
		l := &r.Lifecycles[i]
		if !l.Guest() || r.Host(i) >= 0 {
			continue
		}
		l.Host = [16]byte{}
		out = p.comesOut(r, i, env, mode, out)
	}
	return out
}

// comesOut tells an alert that is not hidden any more: within another one if there is one, else by itself.
func (p *Policy) comesOut(r *customer.Record, i int, env *detectors.Env, mode Mode, out []Step) []Step {
	if k := p.hostFor(r, i, mode); k >= 0 {
		return p.join(r, i, k, env, out)
	}
	if mode == Quiet {
		return out
	}
	return append(out, p.alone(&r.Lifecycles[i], env))
}

// alone tells an alert that was a guest as one of its own, now.
func (p *Policy) alone(l *customer.Lifecycle, env *detectors.Env) Step {
	l.Unpublished, l.ChangedAt = false, max(env.Now, l.ChangedAt)
	p.wake(l, env.Now)
	s := p.held(l)
	s.At = l.ChangedAt
	return step(StepFired, l, &s)
}

// publishGuests ends the quiet history for the guests: those of an alert that was told just now are told with it.
func (p *Policy) publishGuests(r *customer.Record, env *detectors.Env, out []Step) []Step {
	for i := 0; i < len(r.Lifecycles); i++ {
		l := &r.Lifecycles[i]
		switch k := r.Host(i); {
		case !l.Guest():
		case k >= 0:
			p.foretell(r, env, l)
		case p.longPast(r, l, env.Now):
			r.Lifecycles = append(r.Lifecycles[:i], r.Lifecycles[i+1:]...)
			i--
		default:
			l.Host = [16]byte{}
			out = append(out, p.alone(l, env))
			p.foretell(r, env, l)
		}
	}
	return out
}

// rehost gives the guests of an alert its new id.
func rehost(r *customer.Record, was, is [16]byte) {
	for i := range r.Lifecycles {
		if l := &r.Lifecycles[i]; l.Guest() && l.Host == was {
			l.Host = is
		}
	}
}

// closeGuests ends the guests of an alert that a person closes, without a step. They are remembered under its id, so that reopening it reopens them.
func (p *Policy) closeGuests(r *customer.Record, c customer.Closing) {
	for i := 0; i < len(r.Lifecycles); {
		l := r.Lifecycles[i]
		if !l.Guest() || l.Host != c.AlertID {
			i++
			continue
		}
		c.Detector, c.Subject, c.Until = l.Detector, l.Subject, 0
		if l.Subject == "" {
			c.Until = c.At + p.quietAfter
		}
		r.Close(c)
		closed(r, &c)
		r.SettlePrediction(l.AlertID, c.Result)
		s := p.held(&l)
		s.State, s.Reason, s.At = detectors.Clear, detectors.ClosedByOutcome, c.At
		r.Lifecycles = append(r.Lifecycles[:i], r.Lifecycles[i+1:]...)
		p.cfg.Detectors.Remember(r, &s)
	}
}

// guestsOf are the alerts that are told within the one of an id.
func guestsOf(r *customer.Record, id [16]byte) (all []*customer.Lifecycle) {
	for i := range r.Lifecycles {
		if l := &r.Lifecycles[i]; l.Guest() && l.Host == id {
			all = append(all, l)
		}
	}
	return all
}

// guests writes what is told within the alert of a step.
func (p *Policy) guests(o *detectors.Object, s *Step, r *customer.Record, env *detectors.Env) {
	all := guestsOf(r, s.AlertID)
	if len(all) == 0 || s.Kind == StepResolved {
		return
	}
	o.Objects("together", len(all), func(i int, o *detectors.Object) {
		l := all[i]
		g, d := p.held(l), p.cfg.Detectors.Detector(l.Detector)
		g.At = max(l.FiredAt, l.ChangedAt)
		o.Text("detector", l.Detector)
		about(o, l.Subject)
		o.Text("severity", Severity(l.Severity).String())
		o.TimeIf("since", l.Since)
		o.Time("first_fired_at", l.FiredAt)
		if g.Probability != 0 {
			o.Number("probability", g.Probability, 3)
		}
		if d == nil {
			return
		}
		o.TextWith("summary", func(dst []byte) []byte { return d.Summarize(dst, r, env, &g) })
		o.Object("evidence", func(o *detectors.Object) { d.Explain(r, env, &g, o) })
		o.Text("detector_version", d.Version())
	})
}

// also appends the sentences of what is told within the alert of a step.
func (p *Policy) also(dst []byte, s *Step, r *customer.Record, env *detectors.Env) []byte {
	if s.Kind == StepResolved {
		return dst
	}
	for _, l := range guestsOf(r, s.AlertID) {
		if d := p.cfg.Detectors.Detector(l.Detector); d != nil {
			g := p.held(l)
			g.At = max(l.FiredAt, l.ChangedAt)
			dst = d.Summarize(append(dst, " At the same time: "...), r, env, &g)
		}
	}
	return dst
}
