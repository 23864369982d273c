package app

import (
	"log/slog"
	"testing"
	"time"

	"ebb/cmd/ebb/internal/console"
	"ebb/state/customer"
)

// The windows of a record move on with what the customer does. Of somebody who has been silent for half a year the page still knows what he did before.
func TestThePageKnowsWhatASilentCustomerDidBefore(t *testing.T) {
	cfg, err := loadStart("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	src, err := newSource(cfg, "test", Outside{Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	today := int32(now.Unix() / 86400)
	kept := console.Date(cfg.State.KeptDays)
	for _, c := range []struct {
		name   string
		days   []customer.UsageDay
		window console.Date
	}{
		{"silent", []customer.UsageDay{{Day: today - 250, Count: 3}, {Day: today - 180, Count: 1}}, console.Date(today-180) - kept + 1},
		{"active", []customer.UsageDay{{Day: today - 50, Count: 3}, {Day: today, Count: 1}}, console.Date(today) - kept + 1},
		{"ahead of the clock", []customer.UsageDay{{Day: today + 1, Count: 1}}, console.Date(today) - kept + 1},
		{"without any day", nil, console.Date(today) - kept + 1},
	} {
		r := &customer.Record{ID: "c", Usage: c.days}
		v := src.view(r)
		if v.Window != c.window || len(v.Days) != len(c.days) {
			t.Errorf("%s: known from %d days ago on, want %d; %d days", c.name, console.Date(today)-v.Window, console.Date(today)-c.window, len(v.Days))
		}
	}
}
