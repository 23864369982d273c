package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"ebb/cmd/ebb/internal/config"
	"ebb/cmd/ebb/internal/console"
	"ebb/detectors"
	"ebb/state/customer"
	"ebb/stream"
	"ebb/stream/event"
)

// source answers the page's questions from the engine that runs now. The demo exchanges the engine under it.
type source struct {
	cfg    *config.Config
	rates  *detectors.Rates
	zone   *time.Location
	who    string
	build  string
	now    func() time.Time
	engine atomic.Pointer[Engine]
}

var _ console.Source = (*source)(nil)

// Status sums the tasks of the engine up by feed.
func (s *source) Status() console.Status {
	st := console.Status{Group: s.cfg.Group, Instance: s.who, Version: s.build, AsOf: s.now()}
	e := s.engine.Load()
	if e == nil {
		st.Problem = "the engine is not running"
		return st
	}
	st.Partitions = e.Partitions()
	st.Customers = map[string]int64{}
	feeds := map[event.Feed]*console.Feed{}
	for _, f := range s.cfg.Feeds.Read() {
		feeds[f.Role] = &console.Feed{Name: f.Role.String(), Topic: f.Topic, UsualRate: -1, Lateness: -1}
	}
	tasks := e.Status()
	st.Precision = map[string]console.Precision{}
	for detector, p := range stream.VerdictsOf(tasks).Precision() {
		st.Precision[detector] = console.Precision{Right: int(p.Founded), Judged: int(p.Judged)}
	}
	for _, t := range tasks {
		st.Tasks = append(st.Tasks, taskOf(t))
		for stage, n := range t.Stages {
			st.Customers[stage] += n
		}
		for i := range t.Feeds {
			addFeed(feeds[t.Feeds[i].Feed], &t.Feeds[i], st.AsOf)
			if t.Feeds[i].LastEvent.After(st.LastEvent) {
				st.LastEvent = t.Feeds[i].LastEvent
			}
		}
	}
	if second := e.SecondStage(); second != nil {
		st.Mute = second.Error
	}
	for _, f := range s.cfg.Feeds.Read() {
		st.Feeds = append(st.Feeds, *feeds[f.Role])
	}
	return st
}

func taskOf(t stream.TaskStatus) console.Task {
	state := console.TaskLive
	switch {
	case t.State == "stopped":
		state = console.TaskStopped
	case t.State != "running":
		state = console.TaskRestoring
	case !t.Live:
		state = console.TaskCatchingUp
	}
	return console.Task{Partition: t.Partition, State: state, Clock: t.Clock, LastCut: t.LastCut, RestoreRemaining: t.Remaining, Customers: t.Customers, Error: t.Error}
}

// addFeed adds one task's part of a feed: sums of records, the worst of times.
func addFeed(to *console.Feed, f *stream.FeedStatus, now time.Time) {
	if to == nil {
		return
	}
	to.LagRecords += f.Lag
	if f.Lag > 0 && !f.LastEvent.IsZero() {
		to.LagSeconds = max(to.LagSeconds, now.Sub(f.LastEvent).Seconds())
	}
	to.Rate += f.Rate
	if f.Usual >= 0 {
		to.UsualRate = max(to.UsualRate, 0) + f.Usual/3600
	}
	to.Lateness = max(to.Lateness, f.Lateness)
	if f.LastEvent.After(to.LastEvent) {
		to.LastEvent = f.LastEvent
	}
	to.StalledSince = earliest(to.StalledSince, f.Stalled)
	to.BlindSince = earliest(to.BlindSince, f.Blind)
	for reason, n := range f.DeadLetters {
		addLetters(to, string(reason), n, f.Examples[reason])
	}
	slices.SortFunc(to.DeadLetters, func(a, b console.DeadLetters) int { return strings.Compare(a.Reason, b.Reason) })
}

func addLetters(to *console.Feed, reason string, n int64, example string) {
	for i := range to.DeadLetters {
		if to.DeadLetters[i].Reason == reason {
			to.DeadLetters[i].Count += n
			return
		}
	}
	to.DeadLetters = append(to.DeadLetters, console.DeadLetters{Reason: reason, Count: n, Example: example})
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

// Customer asks the task that holds the customer.
func (s *source) Customer(ctx context.Context, id string) (*console.Customer, error) {
	e := s.engine.Load()
	if e == nil {
		return nil, errors.New("the engine is not running")
	}
	r, err := e.Customer(ctx, id)
	switch {
	case errors.Is(err, stream.ErrUnknownCustomer):
		return nil, console.ErrUnknown
	case errors.Is(err, stream.ErrNotHere):
		return nil, console.ErrNotHere
	case err != nil:
		return nil, fmt.Errorf("ask the engine: %w", err)
	}
	return s.view(r), nil
}

func (s *source) view(r *customer.Record) *console.Customer {
	calendar := customer.NewCalendar(s.zone)
	c := &console.Customer{
		ID: r.ID, Currency: s.cfg.Money.Currency, Zone: r.Zone(s.now().UnixMilli()), Stage: stream.StageOf(r, &detectors.Env{Calendar: calendar, Rates: s.rates}),
		First: at(r.First), LastActivity: at(r.LastActivity),
		Days: s.days(r),
	}
	newest := console.Date(calendar.DayOf(r, s.now().UnixMilli()))
	if n := len(c.Days); n > 0 { // the windows move on with what happens: of somebody who is silent they hold what was before
		newest = min(newest, c.Days[n-1].Date)
	}
	c.Window = newest - console.Date(s.cfg.State.KeptDays) + 1
	if c.Zone == "" {
		c.Zone = s.zone.String()
	}
	if p := r.Profile(); p != nil {
		c.Tier, c.Segment, c.Region, c.Owner, c.Product = p.Tier, p.Segment, p.Region, p.Owner, p.Product
		c.Plan, c.Source, c.Status, c.Language = p.Plan, p.Source, p.Status, p.Language
	}
	for i := range r.Complaints {
		k := &r.Complaints[i]
		if k.Opened == 0 {
			continue
		}
		c.Complaints = append(c.Complaints, console.Complaint{ID: k.ID, Priority: k.Priority.String(), Opened: at(k.Opened), Responded: at(k.Responded), Resolved: at(k.Resolved)})
	}
	return c
}

// days joins the two windows of a record into one line a day.
func (s *source) days(r *customer.Record) []console.Day {
	byDay := map[int32]*console.Day{}
	var order []int32
	day := func(n int32) *console.Day {
		d := byDay[n]
		if d == nil {
			d = &console.Day{Date: console.Date(n)}
			byDay[n] = d
			order = append(order, n)
		}
		return d
	}
	for _, u := range r.Usage {
		day(u.Day).Usage += int(u.Count)
	}
	for _, p := range r.Spend {
		d := day(p.Day())
		d.Purchases += int(p.Purchases)
		d.Refunds += int(p.Refunds)
		if m, ok := s.rates.Convert(r.Currencies[p.Currency()], p.Amount); ok {
			d.Spend += m
		}
	}
	return sorted(order, byDay)
}

func at(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
