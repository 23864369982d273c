package event

// Bounds of event time in Unix milliseconds: 1970-01-01 inclusive to 10000-01-01 exclusive.
const (
	minTime = 0
	maxTime = 253402300800_000
)

// parseRFC3339 reads an RFC 3339 date and time, of which parts of a millisecond are cut off. The error is a Reason, ""
// for none. A time without a zone is returned as if in UTC, with ReasonTimeWithoutZone. A second of 60 is read as the
// next minute's first. Lower-case t and z and a blank in place of T are allowed, as RFC 3339 does.
func parseRFC3339(b []byte) (int64, Reason) {
	const date = "2006-01-02T15:04:05"
	if len(b) < len(date) || b[4] != '-' || b[7] != '-' || b[13] != ':' || b[16] != ':' {
		return 0, ReasonTimeInvalid
	}
	if c := b[10]; c != 'T' && c != 't' && c != ' ' {
		return 0, ReasonTimeInvalid
	}
	year, month, day := two(b[0:])*100+two(b[2:]), two(b[5:]), two(b[8:])
	hour, minute, second := two(b[11:]), two(b[14:]), two(b[17:])
	if year|month|day|hour|minute|second < 0 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) ||
		hour > 23 || minute > 59 || second > 60 {
		return 0, ReasonTimeInvalid
	}
	ms := (daysSinceEpoch(year, month, day)*86400 + int64(hour*3600+minute*60+second)) * 1000
	b = b[len(date):]
	if len(b) > 0 && b[0] == '.' {
		i := 1
		for scale := int64(100); i < len(b) && b[i]-'0' <= 9; i++ {
			ms += int64(b[i]-'0') * scale
			scale /= 10
		}
		if i == 1 {
			return 0, ReasonTimeInvalid
		}
		b = b[i:]
	}
	offset, reason := parseZone(b)
	if reason != "" {
		return ms, reason
	}
	return inRange(ms - offset)
}

// parseZone reads Z or ±hh:mm, the whole of b, as milliseconds east of UTC.
func parseZone(b []byte) (int64, Reason) {
	switch {
	case len(b) == 0:
		return 0, ReasonTimeWithoutZone
	case len(b) == 1 && (b[0] == 'Z' || b[0] == 'z'):
		return 0, ""
	case len(b) != 6 || b[3] != ':' || b[0] != '+' && b[0] != '-':
		return 0, ReasonTimeInvalid
	}
	hour, minute := two(b[1:]), two(b[4:])
	if hour|minute < 0 || hour > 23 || minute > 59 {
		return 0, ReasonTimeInvalid
	}
	ms := int64(hour*60+minute) * 60_000
	if b[0] == '-' {
		ms = -ms
	}
	return ms, ""
}

// inRange passes a time that ebb can work with.
func inRange(ms int64) (int64, Reason) {
	if ms < minTime || ms >= maxTime {
		return 0, ReasonTimeOutOfRange
	}
	return ms, ""
}

// two reads two digits; the result is negative if there are none.
func two(b []byte) int {
	hi, lo := b[0]-'0', b[1]-'0'
	if hi > 9 || lo > 9 {
		return -1 << 20
	}
	return int(hi)*10 + int(lo)
}

// daysIn returns the number of days of a month of the Gregorian calendar.
func daysIn(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	default:
		return 31
	}
}

// daysSinceEpoch counts from 1970-01-01 in the proleptic Gregorian calendar. Source: Howard Hinnant, "chrono-Compatible
// Low-Level Date Algorithms", days_from_civil, here with years that begin in March and are not negative.
func daysSinceEpoch(year, month, day int) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	days := 365*year + floorDiv(year, 4) - floorDiv(year, 100) + floorDiv(year, 400) + (153*(month-3)+2)/5 + day - 719469
	return int64(days)
}

// floorDiv is needed for January of the year 0 alone, whose year begins in March of -1.
func floorDiv(a, b int) int {
	if a < 0 {
		return -1
	}
	return a / b
}
