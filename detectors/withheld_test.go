package detectors

import (
	"testing"

	"ebb/state/customer"
)

// Of each day of a silence it is told why it was not alerted, until the day on which it is.
func TestWithheld(t *testing.T) {
	w := newSilenceWorld(t, 12)
	last := w.r.LastActivity
	day := last / dayMs * dayMs
	fired, _ := w.run(t, last)
	why := func(at int64) Withheld {
		w.env.Now = at
		return w.d.withheld(w.r, &w.env)
	}
	before := NotWithheld
	for at := day + dayMs; at < fired.At; at += dayMs {
		got, want := why(at), Unlikely
		if at < day+8*dayMs {
			want = NotOverdue
		}
		if got != want || got < before {
			t.Errorf("%d days after the last purchase: %q, want %q", (at-day)/dayMs, got, want)
		}
		before = got
	}
	if got := why(fired.At); got != NotWithheld || before != Unlikely {
		t.Errorf("on the day of the alert: %q, on the one before %q", got, before)
	}
	if got := why(last + 70*dayMs); got != NotWithheld {
		t.Errorf("of one who is gone: %q", got)
	}
	two := newSilenceWorld(t, 2)
	two.env.Now = last
	if got := two.d.withheld(two.r, &two.env); got != TooNew {
		t.Errorf("of one who came twice: %q", got)
	}
}

// The plain rule knows a limit only, and who has cancelled, or a detector that is switched off, has no reason.
func TestWithheldByTheSet(t *testing.T) {
	cfg := Defaults()
	cfg.Silence.Method, cfg.SpendDrop.Method = Plain, Plain
	set, err := NewSet(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w := newSilenceWorld(t, 12)
	w.env.Now = w.r.LastActivity + 10*dayMs
	if got := set.Withheld(w.r, &w.env); got != NotOverdue || got.String() != "not_overdue" {
		t.Errorf("before the limit: %q", got)
	}
	if got := set.Withheld(&customer.Record{ID: "new"}, &w.env); got != TooNew {
		t.Errorf("of one who did nothing: %q", got)
	}
	w.env.Now = w.r.LastActivity + 80*dayMs
	if got := set.Withheld(w.r, &w.env); got != NotWithheld || got.String() != "" {
		t.Errorf("behind the limit: %q", got)
	}
	w.env.Now, w.r.Cancelled = w.r.LastActivity+10*dayMs, w.r.LastActivity+dayMs
	if got := set.Withheld(w.r, &w.env); got != NotWithheld {
		t.Errorf("of one who cancelled: %q", got)
	}
	cfg.Silence.Enabled = false
	if set, err = NewSet(cfg); err != nil {
		t.Fatal(err)
	}
	if w.r.Cancelled = 0; set.Withheld(w.r, &w.env) != NotWithheld {
		t.Error("of a detector that is switched off")
	}
}
