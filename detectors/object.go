package detectors

import (
	"math"
	"strconv"
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

// TextWith writes a text that fill appends.
func (o *Object) TextWith(k string, fill func(dst []byte) []byte) {
	o.key(k)
	at := len(o.b)
	o.b = fill(o.b)
	for _, c := range o.b[at:] {
		if c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			text := string(o.b[at:])
			o.b = appendText(o.b[:at], text)
			return
		}
	}
	o.b = append(o.b, '"', '"')
	copy(o.b[at+1:], o.b[at:len(o.b)-2])
	o.b[at] = '"'
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

// Number writes a number with at most so many decimals.
func (o *Object) Number(k string, v float64, decimals int) {
	o.key(k)
	scale := math.Pow10(decimals)
	o.b = strconv.AppendFloat(o.b, math.Round(v*scale)/scale, 'f', -1, 64)
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
	o.b = appendDate(o.b, int64(day))
	o.b = append(o.b, '"')
}

// Duration writes a length of time in milliseconds as configuration writes it: "14d".
func (o *Object) Duration(k string, ms int64) {
	o.Text(k, millis(ms).String())
}

// Moneys writes a list of amounts.
func (o *Object) Moneys(k string, list []event.Money) {
	o.list(k, len(list), func(b []byte, i int) []byte { return append(list[i].Append(append(b, '"')), '"') })
}

// Texts writes a list of texts.
func (o *Object) Texts(k string, list []string) {
	o.list(k, len(list), func(b []byte, i int) []byte { return appendText(b, list[i]) })
}

// Ints writes a list of whole numbers.
func (o *Object) Ints(k string, list []int32) {
	o.list(k, len(list), func(b []byte, i int) []byte { return strconv.AppendInt(b, int64(list[i]), 10) })
}

// Objects writes a list of objects; fill is called for each index from 0 to n-1.
func (o *Object) Objects(k string, n int, fill func(i int, o *Object)) {
	o.list(k, n, func(b []byte, i int) []byte {
		in := Begin(b)
		fill(i, &in)
		return in.End()
	})
}

// list writes a list; item appends each index from 0 to n-1.
func (o *Object) list(k string, n int, item func(b []byte, i int) []byte) {
	o.key(k)
	o.b = append(o.b, '[')
	for i := range n {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		o.b = item(o.b, i)
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

// AppendTime appends a time in RFC 3339 with milliseconds, UTC. Years are those of four digits.
func AppendTime(dst []byte, ms int64) []byte {
	const dayMs = 86_400_000
	day, rest := ms/dayMs, ms%dayMs
	if rest < 0 {
		day, rest = day-1, rest+dayMs
	}
	dst = append(appendDate(dst, day), 'T')
	dst = append(appendTwo(dst, rest/3_600_000), ':')
	dst = append(appendTwo(dst, rest/60_000%60), ':')
	dst = append(appendTwo(dst, rest/1000%60), '.', byte('0'+rest/100%10))
	return append(appendTwo(dst, rest%100), 'Z')
}

// appendDate appends a day number as a date of the Gregorian calendar: Howard Hinnant's civil_from_days
// (howardhinnant.github.io/date_algorithms.html), several times as fast as package time.
func appendDate(dst []byte, day int64) []byte {
	const era, epoch = 146_097, 719_468 // days of 400 years; from 0000-03-01 to 1970-01-01
	z := day + epoch
	e := z / era
	if z < 0 {
		e = (z - era + 1) / era
	}
	doe := z - e*era
	yoe := (doe - doe/1460 + doe/36_524 - doe/146_096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	d, m, y := doy-(153*mp+2)/5+1, mp+3, yoe+e*400
	if m > 12 {
		m -= 12
		y++
	}
	dst = appendTwo(appendTwo(dst, y/100%100), y%100)
	dst = append(dst, '-')
	dst = append(appendTwo(dst, m), '-')
	return appendTwo(dst, d)
}

func appendTwo(dst []byte, v int64) []byte { return append(dst, byte('0'+v/10), byte('0'+v%10)) }

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
