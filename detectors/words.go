package detectors

import (
	"strconv"

	"ebb/state/customer"
	"ebb/stream/event"
)

// appendMoney writes an amount with the reporting currency: "41.20 EUR". It is rounded to the minor unit: it is a sentence.
func appendMoney(dst []byte, m event.Money, t *Rates) []byte {
	dst = t.round(m).Append(dst)
	dst = append(dst, ' ')
	return append(dst, t.Currency().String()...)
}

// appendDays writes "week", "2 weeks", "day" or "10 days", to follow "the last".
func appendDays(dst []byte, days int64) []byte {
	switch {
	case days == 1:
		return append(dst, "day"...)
	case days == 7:
		return append(dst, "week"...)
	default:
		return appendCount(dst, days)
	}
}

// appendCount writes "4 weeks" or "10 days".
func appendCount(dst []byte, days int64) []byte {
	n, unit := days, "day"
	if days%7 == 0 {
		n, unit = days/7, "week"
	}
	return appendPlural(dst, n, unit)
}

// appendEvery writes " a day" or " a week".
func appendEvery(dst []byte, days int64) []byte {
	return appendDays(append(dst, " a "...), days)
}

func appendPlural(dst []byte, n int64, unit string) []byte {
	dst = strconv.AppendInt(dst, n, 10)
	dst = append(dst, ' ')
	dst = append(dst, unit...)
	if n != 1 {
		dst = append(dst, 's')
	}
	return dst
}

// appendSpan writes a length of time in words, in its largest whole unit and the next: "14 days", "2 days 5 hours",
// "45 minutes".
func appendSpan(dst []byte, ms int64) []byte {
	const second, minute, hour, day = 1000, 60_000, 3_600_000, 86_400_000
	two := func(big int64, bigName string, small int64, smallName string) []byte {
		dst = appendPlural(dst, ms/big, bigName)
		if rest := ms % big / small; rest != 0 {
			dst = appendPlural(append(dst, ' '), rest, smallName)
		}
		return dst
	}
	switch {
	case ms >= day:
		return two(day, "day", hour, "hour")
	case ms >= hour:
		return two(hour, "hour", minute, "minute")
	case ms >= minute:
		return appendPlural(dst, ms/minute, "minute")
	default:
		return appendPlural(dst, ms/second, "second")
	}
}

// explainRates writes the rates that the customer's currencies were converted by, and those that have none.
func explainRates(r *customer.Record, t *Rates, to *Object) {
	to.Text("currency", t.Currency().String())
	for i := range r.Currencies {
		c := r.Currencies[i]
		if c == t.reporting || c == (event.Currency{}) {
			continue
		}
		one, ok := t.Convert(c, event.MoneyUnit)
		if ok {
			to.Money("rate_"+c.String(), one)
		} else {
			to.Bool("unrated_"+c.String(), true)
		}
	}
}
