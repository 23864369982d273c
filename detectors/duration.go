package detectors

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"ebb/stream/event"
)

// Duration is a length of time that configuration writes as "14d", "48h", "90m" or "1d12h". A day is 24 hours.
type Duration time.Duration

// Units of Duration.
const (
	Hour = Duration(time.Hour)
	Day  = 24 * Hour
	Week = 7 * Day
)

// Ms returns the whole milliseconds.
func (d Duration) Ms() int64 { return time.Duration(d).Milliseconds() }

// millis is the duration of so many milliseconds.
func millis(ms int64) Duration { return Duration(ms) * Duration(time.Millisecond) }

// Std returns the standard library's form.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// ParseDuration reads what time.ParseDuration reads, and before it whole weeks and days: "2w", "14d", "1d12h30m".
func ParseDuration(s string) (Duration, error) {
	bad := fmt.Errorf("%q is no duration: write a number and a unit, such as 14d, 48h, 90m or 30s", s)
	sum := Duration(0)
	rest := s
	for _, u := range []struct {
		name string
		of   Duration
	}{{"w", Week}, {"d", Day}} {
		head, tail, ok := strings.Cut(rest, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(head, 10, 31)
		if err != nil || Duration(n) > (1<<62)/u.of {
			return 0, bad
		}
		sum, rest = sum+Duration(n)*u.of, tail
		if rest == "" {
			return sum, nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 && sum != 0 || sum+Duration(d) < 0 && d > 0 {
		return 0, bad
	}
	return sum + Duration(d), nil
}

// String writes the form that ParseDuration reads: days where they are whole.
func (d Duration) String() string {
	if d < 0 {
		return time.Duration(d).String()
	}
	s := ""
	if days := d / Day; days != 0 {
		s = strconv.FormatInt(int64(days), 10) + "d"
	}
	rest := time.Duration(d % Day)
	if rest == 0 && s != "" {
		return s
	}
	t := rest.String()
	if strings.HasSuffix(t, "m0s") {
		t = t[:len(t)-2]
	}
	if strings.HasSuffix(t, "h0m") {
		t = t[:len(t)-2]
	}
	return s + t
}

// UnmarshalText reads the form of ParseDuration.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := ParseDuration(string(b))
	if err != nil {
		return err
	}
	*d = v
	return nil
}

// MarshalText writes the form of String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Amount is money as configuration writes it: "10.00", in the reporting currency.
type Amount event.Money

// String writes the amount with at least two decimals.
func (a Amount) String() string { return event.Money(a).String() }

// UnmarshalText reads a decimal number of at most four decimals.
func (a *Amount) UnmarshalText(b []byte) error {
	m, rounded, err := event.ParseMoney(string(b))
	if err != nil {
		return fmt.Errorf("%q is no amount: %w", b, err)
	}
	if rounded {
		return fmt.Errorf("%q has more than four decimals", b)
	}
	*a = Amount(m)
	return nil
}

// MarshalText writes the form of String.
func (a Amount) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// Target is a time limit that may be off: "off", "48h", or "0s" for at once. The zero value is off.
type Target int64 // milliseconds + 1

// Within returns the target of a duration; 0 is at once.
func Within(d Duration) Target { return Target(d.Ms() + 1) }

// Limit returns the time limit in milliseconds, and false if it is off.
func (t Target) Limit() (int64, bool) { return int64(t) - 1, t > 0 }

// String writes "off" or the duration.
func (t Target) String() string {
	if t <= 0 {
		return "off"
	}
	return millis(int64(t - 1)).String()
}

// UnmarshalText reads "off" or a duration of at most ten years.
func (t *Target) UnmarshalText(b []byte) error {
	if s := string(b); s == "off" || s == "never" || s == "" {
		*t = 0
		return nil
	}
	d, err := ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf(`%w; or "off"`, err)
	}
	if d < 0 || d > 3660*Day {
		return fmt.Errorf("%q: allowed is 0s to 3660d, or off", b)
	}
	*t = Within(d)
	return nil
}

// MarshalText writes the form of String.
func (t Target) MarshalText() ([]byte, error) { return []byte(t.String()), nil }
