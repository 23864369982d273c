package app

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"ebb/cmd/ebb/internal/console"
	"ebb/state/customer"
	"ebb/stream"
	"ebb/stream/event"
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

// The page is read anew every few seconds: the dead letters of a feed have one order, whichever task tells of them.
func TestDeadLettersOfAFeedStandInOneOrder(t *testing.T) {
	var to console.Feed
	for _, letters := range []map[event.Reason]int64{{"g": 1, "c": 1, "f": 1, "b": 1, "e": 1, "h": 1, "d": 1}, {"c": 2, "a": 1}} {
		addFeed(&to, &stream.FeedStatus{DeadLetters: letters}, time.Time{})
	}
	text := ""
	for _, l := range to.DeadLetters {
		text += fmt.Sprintf("%s%d ", l.Reason, l.Count)
	}
	if text != "a1 b1 c3 d1 e1 f1 g1 h1 " {
		t.Error(text)
	}
}
