package detectors

import (
	"cmp"
	"strconv"

	"ebb/state/customer"
	"ebb/stream/event"
)

// PaymentTroubleName is the name of the detector of customers whose payments fail, who do not leave by their own will.
const PaymentTroubleName = "payment_trouble"

// PaymentTroubleConfig holds the numbers of payment_trouble.
//
// It fires when a payment has failed and no retry is announced, or the announced one has passed, and nothing was paid for Wait; when an invoice is overdue; and, as
// info, when what the customer pays with will expire. It is critical once retries are exhausted: the payment failed again, and no other attempt is announced. It
// ends with the next payment of the kind. A failure that is neither of a series (recurring) nor tells of its attempt is the customer's own try, and is no trouble.
//
// While something is owed, the time counts neither for silence nor for a drop in spend: that nothing is paid is known, and why.
type PaymentTroubleConfig struct {
	Enabled bool `yaml:"enabled"`
	// How long after a failure without a retry, or after the announced one, a payment may still come, 0s to 30d.
	Wait Duration `yaml:"wait"`
	// How long after its date an invoice may still be paid, 0s to 90d.
	OverdueAfter Duration `yaml:"overdue_after"`
	// From when on after its date an invoice is critical, longer than overdue_after, up to 365d. 0s: never.
	CriticalOverdue Duration `yaml:"critical_overdue"`
	// After what time without a payment or another attempt nobody waits any more, 1d to 365d.
	ExpireAfter Duration `yaml:"expire_after"`
}

// DefaultPaymentTrouble returns the documented defaults.
func DefaultPaymentTrouble() PaymentTroubleConfig {
	return PaymentTroubleConfig{Enabled: true, Wait: Day, OverdueAfter: 3 * Day, CriticalOverdue: 30 * Day, ExpireAfter: 90 * Day}
}

func (c *PaymentTroubleConfig) validate(f *faults) {
	const at = PaymentTroubleName + "."
	f.duration(at+"wait", c.Wait, 0, 30*Day)
	f.duration(at+"overdue_after", c.OverdueAfter, 0, 90*Day)
	if c.CriticalOverdue != 0 {
		f.duration(at+"critical_overdue", c.CriticalOverdue, c.OverdueAfter+Hour, 365*Day)
	}
	f.duration(at+"expire_after", c.ExpireAfter, Day, 365*Day)
	if c.Enabled && c.ExpireAfter <= max(c.Wait, c.OverdueAfter, c.CriticalOverdue) {
		f.add(at+"expire_after", "is %s; allowed is more than wait, overdue_after and critical_overdue", c.ExpireAfter)
	}
}

// Why payment_trouble fires: the cause of a signal. The numbers are stored.
const (
	causeExpiring uint8 = iota + 1
	causeOverdue
	causeFailed
	causeExhausted
)

// troubleBaseline is how many days before the trouble say what is usual: bills come once a month.
const troubleBaseline = 84

var troubleNames = [...]string{causeExpiring: "method_expiring", causeOverdue: "invoice_overdue", causeFailed: "charge_failed", causeExhausted: "retries_exhausted"}

type paymentTrouble struct {
	cfg     PaymentTroubleConfig
	giveUp  int64 // ms
	horizon Duration
}

func newPaymentTrouble(cfg PaymentTroubleConfig, horizon Duration) *paymentTrouble {
	return &paymentTrouble{cfg: cfg, giveUp: cfg.ExpireAfter.Ms(), horizon: horizon}
}

var _ Detector = (*paymentTrouble)(nil)

func (*paymentTrouble) Name() string    { return PaymentTroubleName }
func (*paymentTrouble) Version() string { return "1" }

// owes is how things stand with what a customer owes.
type owes struct {
	cause    uint8 // 0: nothing is the matter
	severity Severity
	at       int64 // when the worst that has happened happened
	since    int64 // when that began
	hold     int64 // of what would have happened by now, if all were known that was: when the first did; 0 for nothing
	next     int64 // when the next will happen, 0 for never
	ends     int64 // when nobody waits any more for the last of what has happened
}

// stand judges at a time, from what is known up to another.
func (d *paymentTrouble) stand(b *customer.Billing, now, known int64) owes {
	s := owes{}
	// tell takes in what happens at a time and is not waited for after another. told: a record says so, it needs no proof that none came.
	tell := func(at, since, ends int64, cause uint8, severity Severity, told bool) {
		switch {
		case now >= ends:
			return
		case at > now:
			s.next = earlier(s.next, at)
			return
		case at > known && !told:
			s.hold = earlier(s.hold, at)
			return
		}
		s.ends = max(s.ends, ends)
		if severity > s.severity || severity == s.severity && (cause > s.cause || cause == s.cause && at < s.at) {
			s.cause, s.severity, s.at, s.since = cause, severity, at, since
		}
	}
	if f := &b.Failing; f.Since != 0 {
		if f.Exhausted() {
			tell(f.Last, f.Since, f.Until(d.giveUp), causeExhausted, Critical, true)
		} else {
			tell(max(f.Last, f.Next)+d.cfg.Wait.Ms(), f.Since, f.Until(d.giveUp), causeFailed, Warning, false)
		}
	}
	for i := range b.Invoices {
		v := &b.Invoices[i]
		due, told := v.Due+d.cfg.OverdueAfter.Ms(), v.Told != 0
		if told {
			due = min(due, v.Told)
		}
		tell(due, v.Due, v.Due+d.giveUp, causeOverdue, Warning, told && due == v.Told)
		if d.cfg.CriticalOverdue != 0 {
			tell(v.Due+d.cfg.CriticalOverdue.Ms(), v.Due, v.Due+d.giveUp, causeOverdue, Critical, false)
		}
	}
	if b.Expiring != 0 {
		tell(b.Expiring, b.Expiring, b.Expires+d.giveUp, causeExpiring, Info, true)
	}
	return s
}

// Evaluate costs a comparison for whoever owes nothing.
func (d *paymentTrouble) Evaluate(r *customer.Record, env *Env, _ *event.Event, out []Signal) ([]Signal, int64) {
	open := r.Lifecycle(PaymentTroubleName, "")
	b, kept := r.Billing(d.giveUp)
	if open < 0 && (!kept || r.Cancelled != 0) {
		return out, 0
	}
	known := env.KnownUntil[event.Payments]
	s := d.stand(&b, env.Now, known)
	if open >= 0 {
		return d.goesOn(r, env, &b, &s, &r.Lifecycles[open], out)
	}
	switch {
	case s.cause == 0 && s.hold != 0:
		return append(out, Signal{Detector: PaymentTroubleName, State: Hold, At: s.hold}), env.again(s.hold, known)
	case s.cause == 0:
		return out, s.next
	}
	day := env.Calendar.DayOf(r, s.since)
	return append(out, Signal{
		Detector: PaymentTroubleName, State: Firing, At: s.at, Since: s.since, Severity: s.severity, Cause: s.cause, Day: day,
		Expected: d.owed(&b, env, s.at), AtRisk: d.atRisk(r, env, &b, s.at, day),
	}), d.next(&s, env, known)
}

// next is when an open alert changes by itself.
func (d *paymentTrouble) next(s *owes, env *Env, known int64) int64 {
	at := earlier(s.next, s.ends)
	if s.hold != 0 {
		at = earlier(at, env.again(s.hold, known))
	}
	return at
}

// owed is what is open by a time, in the reporting currency.
func (d *paymentTrouble) owed(b *customer.Billing, env *Env, at int64) event.Money {
	return env.Rates.round(add(failing(b, env), invoiced(b, env, at)))
}

// failing is the payment that fails, and invoiced are the invoices that were due by a time, in the reporting currency.
func failing(b *customer.Billing, env *Env) event.Money {
	if b.Failing.Since == 0 {
		return 0
	}
	v, _ := env.Rates.Convert(b.Failing.Currency, b.Failing.Amount)
	return v
}

func invoiced(b *customer.Billing, env *Env, at int64) event.Money {
	sum := event.Money(0)
	for i := range b.Invoices {
		if x := &b.Invoices[i]; x.Due <= at {
			v, _ := env.Rates.Convert(x.Currency, x.Amount)
			sum = add(sum, v)
		}
	}
	return sum
}

// about is the amount of what a signal is about: not of all that is owed, if a payment fails and an invoice is overdue beside it. What is paid by now counts as it was.
func (d *paymentTrouble) about(b *customer.Billing, env *Env, sig *Signal) event.Money {
	switch {
	case sig.Cause == causeOverdue && overdue(b, sig.At) != 0:
		return env.Rates.round(invoiced(b, env, sig.At))
	case sig.Cause != causeOverdue && b.Failing.Since != 0:
		return env.Rates.round(failing(b, env))
	}
	return sig.Expected
}

// atRisk is what the customer would spend in the horizon as he did before the trouble began, at least what he owes.
func (d *paymentTrouble) atRisk(r *customer.Record, env *Env, b *customer.Billing, at int64, day int32) event.Money {
	const days = troubleBaseline
	_, spent := spendOf(r, env.Rates, day-days+1, day-days+1, day+1)
	return max(env.Rates.round(max(0, scaled(spent, d.horizon.Ms(), days*Day.Ms()))), d.owed(b, env, at))
}

// goesOn judges a customer whose alert is open.
func (d *paymentTrouble) goesOn(r *customer.Record, env *Env, b *customer.Billing, s *owes, l *customer.Lifecycle, out []Signal) ([]Signal, int64) {
	known := env.KnownUntil[event.Payments]
	x := Signal{
		Detector: PaymentTroubleName, State: Firing, At: env.Now, Since: l.Since, Severity: Severity(l.Severity), Cause: l.Cause, Day: l.Day,
		Expected: l.Expected, AtRisk: l.AtRisk,
	}
	switch {
	case r.Cancelled != 0: // stated churn, often because nothing was paid
		x.State, x.Reason, x.At = Clear, Churned, max(env.Now, l.FiredAt)
		return append(out, x), 0
	case s.cause != 0:
		if s.severity > x.Severity {
			x.Severity, x.Cause, x.At, x.Day = s.severity, s.cause, max(s.at, l.ChangedAt), env.Calendar.DayOf(r, s.since)
			x.Expected, x.AtRisk = d.owed(b, env, x.At), d.atRisk(r, env, b, x.At, x.Day)
		}
		return append(out, x), d.next(s, env, known)
	case s.hold != 0: // what was known is not any more
		return append(out, Signal{Detector: PaymentTroubleName, State: Hold, At: s.hold}), env.again(s.hold, known)
	case b.Failing.Since != 0 && env.Now < b.Failing.Until(d.giveUp): // it will be tried again, but is not paid
		return append(out, x), earlier(s.next, b.Failing.Until(d.giveUp))
	}
	x.State, x.At = Clear, max(env.Now, l.FiredAt)
	switch {
	case b.Paid < l.Since:
		x.Reason = Expired
	case b.Paid < l.FiredAt:
		x.Reason = CorrectedByLateData
	default:
		x.Reason = Recovered
	}
	return append(out, x), s.next
}

// Explain writes what is owed since when.
func (d *paymentTrouble) Explain(r *customer.Record, env *Env, sig *Signal, to *Object) {
	if sig.Cause != 0 {
		to.Text("trouble", troubleNames[sig.Cause])
	}
	b, _ := r.Billing(d.giveUp)
	if f := &b.Failing; f.Since != 0 {
		to.Time("first_failure", f.Since)
		to.Time("last_failure", f.Last)
		to.Int("failures", int64(f.Attempts))
		if f.Told != 0 {
			to.Int("attempt", int64(f.Told))
		}
		to.TimeIf("next_attempt", f.Next)
		to.TextIf("failure_code", f.Code)
	}
	if n := overdue(&b, sig.At); n != 0 {
		to.Time("due", b.Invoices[0].Due)
		to.Int("invoices_overdue", n)
	}
	to.TimeIf("expires", b.Expires)
	if sig.State == Firing && sig.Expected != 0 {
		to.Money("unpaid", sig.Expected)
	}
	to.TimeIf("paid", b.Paid)
	to.TimeIf("last_activity", r.LastActivity)
	_, spent := spendOf(r, env.Rates, sig.Day-troubleBaseline+1, sig.Day-troubleBaseline+1, sig.Day+1)
	to.Money("baseline", spent)
	to.Int("baseline_days", troubleBaseline)
	explainRates(r, env.Rates, to)
}

// overdue is how many invoices were due by a time.
func overdue(b *customer.Billing, at int64) int64 {
	n := int64(0)
	for i := range b.Invoices {
		if b.Invoices[i].Due <= at {
			n++
		}
	}
	return n
}

// Summarize tells what was not paid, and how often it was tried.
func (d *paymentTrouble) Summarize(dst []byte, r *customer.Record, env *Env, sig *Signal) []byte {
	b, _ := r.Billing(d.giveUp)
	switch {
	case sig.State == Clear && sig.Reason == Churned:
		return append(dst, "Cancelled the subscription: counted as gone."...)
	case sig.State == Clear && sig.Reason == Expired:
		return append(appendSpan(append(dst, "Was not paid for "...), d.giveUp), ": nobody waits for it any more."...)
	case sig.State == Clear && sig.Reason == CorrectedByLateData:
		return append(dst, "Was paid in time: a record that came late shows it."...)
	case sig.State == Clear:
		since := sig.Since
		for _, x := range b.Owed {
			if x.To == b.Paid {
				since = max(since, x.From)
			}
		}
		return append(appendSpan(append(dst, "Paid after "...), sig.At-since), '.')
	}
	what := func(dst []byte) []byte {
		m := d.about(&b, env, sig)
		if m == 0 {
			return dst
		}
		return appendMoney(append(dst, " of "...), m, env.Rates)
	}
	switch sig.Cause {
	case causeExpiring:
		return append(appendDate(append(dst, "What the customer pays with expires on "...), b.Expires/Day.Ms()), '.')
	case causeOverdue:
		if n := overdue(&b, sig.At); n > 1 {
			dst = append(what(appendPlural(dst, n, "invoice")), " in all have been overdue since "...)
		} else {
			dst = append(what(append(dst, "An invoice"...)), " has been overdue since "...)
		}
		return append(appendDate(dst, int64(sig.Day)), '.')
	case causeExhausted:
		dst = append(what(append(dst, "A payment"...)), " has failed "...)
		dst = append(appendPlural(dst, int64(max(b.Failing.Attempts, int(b.Failing.Told))), "time"), " since "...)
		return append(appendDate(dst, int64(sig.Day)), ", and will not be tried again."...)
	}
	dst = append(what(append(dst, "A payment"...)), " failed on "...)
	dst = appendDate(dst, int64(sig.Day))
	if n := cmp.Or(int64(b.Failing.Told), int64(b.Failing.Attempts)); n > 1 {
		dst = append(strconv.AppendInt(append(dst, ", attempt "...), n, 10), " was the last that is known"...)
	}
	if b.Failing.Next != 0 {
		dst = append(dst, "; the announced retry has passed"...)
	}
	return append(dst, ", and nothing was paid since."...)
}
