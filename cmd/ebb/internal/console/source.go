package console

import (
	"context"
	"errors"
	"time"

	"ebb/stream/event"
)

// Source tells what the engine knows. It is asked from many goroutines at once.
type Source interface {
	// Status is answered from memory, at once. Several times a second is not too often.
	Status() Status
	// Customer returns a copy of what is known of one customer, or ErrUnknown, or ErrNotHere, or ctx's error.
	Customer(ctx context.Context, id string) (*Customer, error)
}

// Answers of Source.Customer besides a customer.
var (
	// ErrUnknown: no event of this customer was ever seen.
	ErrUnknown = errors.New("no event of this customer has been seen")
	// ErrNotHere: another instance of the group holds the customer's partition.
	ErrNotHere = errors.New("another instance of the group holds this customer")
)

// Status is the state of the engine as one instance sees it. All times are event times; a zero time is not known.
type Status struct {
	Group    string
	Instance string
	Version  string
	// Problem says in a sentence why the engine does not answer; empty while it does. The other fields are then as of AsOf.
	Problem string
	// Mute says in a sentence why this instance publishes no operational alerts although that falls to it; empty otherwise.
	Mute string
	AsOf time.Time
	// LastEvent is the latest event time seen in any feed.
	LastEvent time.Time
	Feeds     []Feed
	Tasks     []Task
	// Partitions is how many tasks the group has; Tasks may be fewer when other instances hold the rest.
	Partitions int
	// Customers counts customers by stage: warming_up, new, growing, mature, declining, lapsed, blind, quarantined.
	Customers map[string]int64
	// Precision is what became of the alerts of each detector whose horizon has passed.
	Precision map[string]Precision
}

// Precision is how many of the alerts that are judged were right, or saved a customer.
type Precision struct{ Right, Judged int }

// Feed is the state of one input topic.
type Feed struct {
	Name  string
	Topic string
	// LagRecords and LagSeconds say how far behind the reading is, over all partitions: the sum and the largest.
	LagRecords int64
	LagSeconds float64
	// Rate is records a second now, UsualRate that of this hour of the week; UsualRate is negative while not known.
	Rate, UsualRate float64
	// Lateness is by how much the latest one percent of events came after their time; negative while not known.
	Lateness  time.Duration
	LastEvent time.Time
	// StalledSince is set while the feed is silent against its own rhythm, or cannot be read.
	StalledSince time.Time
	// BlindSince is set while too many of its records cannot be read to trust its silence.
	BlindSince     time.Time
	BlindCustomers int64
	DeadLetters    []DeadLetters
}

// DeadLetters counts the records of a feed that went to the dead-letter topic for one reason.
type DeadLetters struct {
	Reason string
	Count  int64
	// Example is where the latest lies, with its message: never its payload.
	Example string
}

// Task states.
const (
	TaskRestoring  = "restoring"
	TaskCatchingUp = "catching_up"
	TaskLive       = "live"
	TaskStopped    = "stopped"
)

// Task is the state of one partition of all feeds.
type Task struct {
	Partition int32
	State     string // one of the Task constants
	// Clock is how far in event time the task has decided.
	Clock   time.Time
	LastCut time.Time
	// RestoreRemaining is how many changelog records are still to be read, while restoring.
	RestoreRemaining int64
	Customers        int64
	// Error says why the task is stopped and what mends it.
	Error string
}

// Customer is what is known of one customer.
type Customer struct {
	ID       string
	Tier     string
	Segment  string
	Region   string
	Owner    string
	Product  string
	Plan     string
	Source   string
	Status   string
	Language string
	// Zone is the IANA zone of the customer's days; empty is UTC.
	Zone string
	// Currency is that of all amounts: the reporting currency.
	Currency string
	// Stage is one of those of Status.Customers.
	Stage string

	First, LastActivity time.Time
	// KnownUntil is up to when his silence can be told from a feed's; zero while not known.
	KnownUntil time.Time

	// Window is the first day that the record still covers; days before it are not known. It moves on with what happens, not with the
	// time. Days holds the days on which something happened, in order.
	Window Date
	Days   []Day

	Complaints []Complaint

	// What withSeries has added: days before spendOnly come from an alert's evidence, which knows of spend alone; days from gapFrom to before gapTo
	// are not known.
	spendOnly, gapFrom, gapTo Date
}

// Date counts days since 1970-01-01 in the customer's zone.
type Date int32

// Time is the date's midnight in UTC, for printing.
func (d Date) Time() time.Time { return time.Unix(int64(d)*86400, 0).UTC() }

// Day is what happened on one day of the customer's calendar.
type Day struct {
	Date      Date
	Spend     event.Money // purchases less refunds, in the reporting currency
	Purchases int
	Refunds   int
	Usage     int // usage events
}

// Complaint is one complaint; zero times have not happened.
type Complaint struct {
	ID                          string
	Priority                    string
	Opened, Responded, Resolved time.Time
}

// Rule describes a detector in plain words, as the configuration has set it.
type Rule struct {
	Detector string
	Version  string
	// Sentence is the whole rule in one or two sentences.
	Sentence string
	// Thresholds are its numbers, in the order in which they are worth reading.
	Thresholds []Threshold
	// Next says what to do about such an alert; empty if the configuration says nothing.
	Next string
}

// Threshold is one number of a rule.
type Threshold struct{ Name, Value string }
