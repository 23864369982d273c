package config

import (
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"strconv"
	"strings"
	"time"

	"ebb/detectors"
)

// Duration is a length of time, written as numbers with units: 500ms, 30s, 10m, 48h, 14d, 2w, 1h30m. A day is 24 hours. It is
// written as the detectors' own durations are, and never negative.
type Duration time.Duration

// Std is the duration as the standard library has it.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// Milliseconds is the duration in whole ms, the unit of event time.
func (d Duration) Milliseconds() int64 { return time.Duration(d).Milliseconds() }

// String is the form that is read back.
func (d Duration) String() string { return detectors.Duration(d).String() }

// MarshalText writes the form of String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a duration of 0 or more.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := detectors.ParseDuration(string(b))
	if err == nil && v < 0 {
		err = fmt.Errorf("%q is negative; write a positive duration", b)
	}
	if err != nil {
		return err
	}
	*d = Duration(v)
	return nil
}

// Bytes is a size: 64MB, 1GB (powers of 1000), 64MiB, 1GiB (powers of 1024), or a plain number of bytes.
type Bytes int64

var byteUnits = []struct {
	name string
	size int64
}{
	{"TB", 1e12},
	{"GB", 1e9},
	{"MB", 1e6},
	{"KB", 1e3},
	{"TiB", 1 << 40},
	{"GiB", 1 << 30},
	{"MiB", 1 << 20},
	{"KiB", 1 << 10},
	{"B", 1},
}

var errBytes = errors.New("is not a size; write a number and a unit, as in 256KB, 64MB, 1GB or 64MiB")

// ParseBytes reads a size. Parts of a unit are allowed (1.5GB) as long as the result is a whole number of bytes.
func ParseBytes(s string) (Bytes, error) {
	number, size := s, int64(1)
	for _, u := range byteUnits {
		if n, ok := strings.CutSuffix(s, u.name); ok {
			number, size = strings.TrimRight(n, " "), u.size
			break
		}
	}
	if strings.Trim(number, "0123456789.") != "" {
		return 0, fmt.Errorf("%q %w", s, errBytes)
	}
	r, ok := new(big.Rat).SetString(number)
	if !ok {
		return 0, fmt.Errorf("%q %w", s, errBytes)
	}
	r.Mul(r, new(big.Rat).SetInt64(size))
	if !r.IsInt() || !r.Num().IsInt64() {
		return 0, fmt.Errorf("%q %w", s, errBytes)
	}
	return Bytes(r.Num().Int64()), nil
}

// String is the size in the largest unit that divides it.
func (n Bytes) String() string {
	if n == 0 {
		return "0B"
	}
	best := byteUnits[len(byteUnits)-1]
	for _, u := range byteUnits {
		if u.size > best.size && int64(n)%u.size == 0 {
			best = u
		}
	}
	return strconv.FormatInt(int64(n)/best.size, 10) + best.name
}

// MarshalText and UnmarshalText make Bytes a scalar of the configuration.
func (n Bytes) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText reads what ParseBytes reads.
func (n *Bytes) UnmarshalText(b []byte) error {
	v, err := ParseBytes(string(b))
	*n = v
	return err
}

// masked is shown in place of every secret.
const masked = "********"

// Secret is a password or key. It shows itself as stars everywhere; only Value gives it away.
type Secret string

// Value is the secret itself.
func (s Secret) Value() string { return string(s) }

// String is the mask, or empty when there is no secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return masked
}

// GoString keeps %#v from showing the secret.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// LogValue keeps slog from showing the secret.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText masks the secret.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes the secret as it stands.
func (s *Secret) UnmarshalText(b []byte) error {
	*s = Secret(b)
	return nil
}

// File is the path of a file that ebb reads. A relative path is taken from the folder of the configuration file.
type File string
