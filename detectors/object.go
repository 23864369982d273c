package detectors

import (
	"strconv"
	"time"
	"unicode/utf8"

	"ebb/stream/event"
)

// Object writes a JSON object member by member, in the order of the calls, into memory that is used again. Texts that are
// not valid UTF-8 get replacement characters.
type Object struct {
	b     []byte
	first bool
}

// Begin starts an object behind what dst holds already.
func Begin(dst []byte) Object { return Object{b: append(dst, '{'), first: true} }

// End closes the object and returns everything written.
func (o *Object) End() []byte { return append(o.b, '}') }

func (o *Object) key(k string) {
	if !o.first {
		o.b = append(o.b, ',')
	}
	o.first = false
	o.b = append(o.b, '"')
	o.b = append(o.b, k...)
	o.b = append(o.b, '"', ':')
}

// Text writes a text.
func (o *Object) Text(k, v string) {
	o.key(k)
	o.b = appendText(o.b, v)
}

// TextIf writes a text that is not empty.
func (o *Object) TextIf(k, v string) {
	if v != "" {
		o.Text(k, v)
	}
}

// Int writes a whole number.
func (o *Object) Int(k string, v int64) {
	o.key(k)
	o.b = strconv.AppendInt(o.b, v, 10)
}

// Bool writes true or false.
func (o *Object) Bool(k string, v bool) {
	o.key(k)
	o.b = strconv.AppendBool(o.b, v)
}

// Money writes an exact amount as a text: "41.20".
func (o *Object) Money(k string, m event.Money) {
	o.key(k)
	o.b = append(o.b, '"')
	o.b = m.Append(o.b)
	o.b = append(o.b, '"')
}

// Time writes an event time.
func (o *Object) Time(k string, ms int64) {
	o.key(k)
	o.b = append(o.b, '"')
	o.b = AppendTime(o.b, ms)
	o.b = append(o.b, '"')
}

// TimeIf writes a time that is known.
func (o *Object) TimeIf(k string, ms int64) {
	if ms != 0 {
		o.Time(k, ms)
	}
}

// Date writes a local day number as a date.
func (o *Object) Date(k string, day int32) {
	o.key(k)
	o.b = append(o.b, '"')
	o.b = time.Unix(int64(day)*86400, 0).UTC().AppendFormat(o.b, time.DateOnly)
	o.b = append(o.b, '"')
}

// Duration writes a length of time in milliseconds as configuration writes it: "14d".
func (o *Object) Duration(k string, ms int64) {
	o.Text(k, millis(ms).String())
}

// Moneys writes a list of amounts.
func (o *Object) Moneys(k string, list []event.Money) {
	o.key(k)
	o.b = append(o.b, '[')
	for i, m := range list {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		o.b = append(o.b, '"')
		o.b = m.Append(o.b)
		o.b = append(o.b, '"')
	}
	o.b = append(o.b, ']')
}

// Object writes a member that is itself an object.
func (o *Object) Object(k string, fill func(*Object)) {
	o.key(k)
	in := Begin(o.b)
	fill(&in)
	o.b = in.End()
}

// AppendTime appends a time in RFC 3339 with milliseconds, UTC.
func AppendTime(dst []byte, ms int64) []byte {
	return time.UnixMilli(ms).UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z")
}

// appendText appends a JSON string.
func appendText(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' {
				i++
				continue
			}
			dst = append(dst, s[start:i]...)
			switch c {
			case '"', '\\':
				dst = append(dst, '\\', c)
			case '\n':
				dst = append(dst, '\\', 'n')
			case '\t':
				dst = append(dst, '\\', 't')
			case '\r':
				dst = append(dst, '\\', 'r')
			default:
				dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			}
			i++
			start = i
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			dst = append(dst, s[start:i]...)
			dst = append(dst, "\uFFFD"...)
			start = i + 1
		}
		i += n
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}
