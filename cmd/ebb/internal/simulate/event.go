package simulate

import (
	"strconv"
	"time"
)

// Feed is the role of a topic, by the name that ebb's configuration gives it.
type Feed string

// The four feeds that the crowd writes.
const (
	Usage      Feed = "usage"
	Payments   Feed = "payments"
	Complaints Feed = "complaints"
	Customers  Feed = "customers"
)

// Feeds lists every feed of the crowd, in a fixed order.
func Feeds() []Feed { return []Feed{Usage, Payments, Complaints, Customers} }

// Event is one record for a feed.
type Event struct {
	Feed Feed
	// Key is the record key: the customer's id.
	Key string
	// Value is the record as JSON. It belongs to the receiver.
	Value []byte
	// Time is when it happened.
	Time time.Time
	// At is when it reaches the topic: never before Time, and a day or more after it for a late batch.
	At time.Time
	// Spend is what the event adds to the customer's own spend, in cents; negative for a refund, 0 for all that is no
	// spend. It saves a reader that only adds up the parsing of Value.
	Spend int64
}

// record is an event on its way: in the buffer of its day, or waiting for its arrival.
type record struct {
	feed  Feed
	key   string
	value []byte
	time  int64 // ms
	at    int64 // ms
	seq   uint64
	spend int64
}

func (r *record) event() Event {
	return Event{
		Feed: r.feed, Key: r.key, Value: r.value,
		Time: time.UnixMilli(r.time).UTC(), At: time.UnixMilli(r.at).UTC(), Spend: r.spend,
	}
}

func before(a, b *record) int {
	switch {
	case a.at != b.at:
		if a.at < b.at {
			return -1
		}
		return 1
	case a.seq < b.seq:
		return -1
	case a.seq > b.seq:
		return 1
	}
	return 0
}

// object appends the members of a flat JSON object. Names and the strings that the crowd invents need no escaping.
type object []byte

func newObject(size int) object { return append(make(object, 0, size), '{') }

func (o object) name(n string) object {
	if len(o) > 1 {
		o = append(o, ',')
	}
	o = append(o, '"')
	o = append(o, n...)
	return append(o, '"', ':')
}

func (o object) str(n, v string) object {
	o = append(o.name(n), '"')
	o = append(o, v...)
	return append(o, '"')
}

func (o object) num(n string, v int64) object { return strconv.AppendInt(o.name(n), v, 10) }

func (o object) raw(n, v string) object { return append(o.name(n), v...) }

// cents appends an amount of cents as a number with two decimals.
func (o object) cents(n string, v int64) object {
	o = strconv.AppendInt(o.name(n), v/100, 10)
	return append(o, '.', byte('0'+v/10%10), byte('0'+v%10))
}

// tenths appends a quantity of tenths as a number with one decimal.
func (o object) tenths(n string, v int64) object {
	o = strconv.AppendInt(o.name(n), v/10, 10)
	return append(o, '.', byte('0'+v%10))
}

func (o object) time(n string, ms int64) object {
	o = append(o.name(n), '"')
	o = time.UnixMilli(ms).UTC().AppendFormat(o, "2006-01-02T15:04:05.000Z")
	return append(o, '"')
}

func (o object) end() []byte { return append(o, '}') }
