package event

import (
	"errors"
	"math"
	"math/bits"
	"strconv"
)

// Money is an amount in 1/10000 of the currency unit: 41.20 is 412000. The range is about 922 billion units.
type Money int64

// MoneyScale is the number of decimals of Money, and MoneyUnit is one currency unit.
const (
	MoneyScale       = 4
	MoneyUnit  Money = 10000
)

// Errors of reading a decimal.
var (
	ErrMoneySyntax   = errors.New("not a decimal number")
	ErrMoneyOverflow = errors.New("number too large")
)

// ParseMoney reads a decimal number as JSON writes it, exponent included; a leading "+" and leading zeros are allowed
// too. More than four decimals are rounded half to even, and rounded is then true. The error is ErrMoneySyntax or
// ErrMoneyOverflow.
func ParseMoney(s string) (m Money, rounded bool, err error) {
	v, rounded, err := parseDecimal(s, MoneyScale)
	return Money(v), rounded, err
}

// String writes the exact amount with at least two decimals: "41.20", "-0.0001".
func (m Money) String() string { return string(m.Append(make([]byte, 0, 24))) }

// Append appends what String writes.
func (m Money) Append(dst []byte) []byte {
	u := uint64(m)
	if m < 0 {
		dst = append(dst, '-')
		u = -u
	}
	dst = strconv.AppendUint(dst, u/uint64(MoneyUnit), 10)
	frac := u % uint64(MoneyUnit)
	dst = append(dst, '.', byte('0'+frac/1000), byte('0'+frac/100%10))
	if frac%100 != 0 {
		dst = append(dst, byte('0'+frac/10%10))
		if frac%10 != 0 {
			dst = append(dst, byte('0'+frac%10))
		}
	}
	return dst
}

// Add returns m+n, and false if that is more than Money holds.
func (m Money) Add(n Money) (Money, bool) {
	s := m + n
	return s, (s > m) == (n > 0)
}

// MulDiv returns m*num/den rounded half to even, and false if that is more than Money holds. den must be positive.
func (m Money) MulDiv(num, den int64) (Money, bool) {
	neg := (m < 0) != (num < 0)
	hi, lo := bits.Mul64(abs(int64(m)), abs(num))
	if hi >= uint64(den) {
		return 0, false
	}
	q, r := bits.Div64(hi, lo, uint64(den))
	if half := uint64(den) - r; r > half || r == half && q&1 == 1 {
		q++
	}
	if q > math.MaxInt64 {
		return 0, false
	}
	if neg {
		return Money(-int64(q)), true
	}
	return Money(q), true
}

func abs(v int64) uint64 {
	if v < 0 {
		return -uint64(v)
	}
	return uint64(v)
}

// pow10 holds the powers of ten that 64 bits hold.
var pow10 = [20]uint64{
	1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
}

// parseDecimal reads a decimal number and returns it times 10^scale, rounded half to even; scale may be negative.
// It keeps the first 19 digits after leading zeros, one more for rounding, and whether any later one is not zero: a number
// with more digits before its rounding place overflows anyway.
func parseDecimal[T string | []byte](s T, scale int) (v int64, rounded bool, err error) {
	i, neg := 0, false
	if i < len(s) && (s[i] == '-' || s[i] == '+') {
		neg = s[i] == '-'
		i++
	}
	var (
		mantissa uint64
		digits   int  // in mantissa
		dropped  int  // digits that did not fit
		next     byte // the first of them
		sticky   bool // one of those after it is not zero
		seen     bool
		point    = -1 // digits after the point, -1 = no point yet
	)
	for ; i < len(s); i++ {
		c := s[i]
		if c == '.' && point < 0 {
			point = 0
			continue
		}
		d := c - '0'
		if d > 9 {
			break
		}
		seen = true
		if point >= 0 {
			point++
		}
		switch {
		case digits < 19:
			mantissa = mantissa*10 + uint64(d)
			if mantissa != 0 {
				digits++
			}
		case dropped == 0:
			next = d
			dropped = 1
		default:
			sticky = sticky || d != 0
			dropped++
		}
	}
	if !seen || point == 0 {
		return 0, false, ErrMoneySyntax
	}
	exp := 0
	if i < len(s) {
		if exp, err = parseExponent(s, i); err != nil {
			return 0, false, err
		}
	}
	shift := scale + exp + dropped - max(point, 0)
	return scaleDecimal(mantissa, shift, next, sticky, neg)
}

// appendPointed writes a number with a comma before its decimals in the form that parseDecimal reads. Points, spaces (the narrow and the
// unbreakable too) and apostrophes may stand between thousands. It is false where they stand elsewhere: 10.84 is not 1084.
func appendPointed(dst, s []byte) ([]byte, bool) {
	run, grouped, comma := 0, false, false // digits since the last sign, whether thousands are told apart, whether the decimals have begun
	for len(s) != 0 {
		c, size := s[0], 1
		switch gap := thousands(s); {
		case c >= '0' && c <= '9':
			run++
			dst = append(dst, c)
		case c == ',':
			if comma || grouped && run != 3 {
				return dst, false
			}
			comma, grouped, run = true, false, 0
			dst = append(dst, '.')
		case gap != 0:
			if comma || run == 0 || run > 3 || grouped && run != 3 {
				return dst, false
			}
			grouped, run, size = true, 0, gap
		default: // a sign, or what parseDecimal finds wrong
			dst = append(dst, c)
		}
		s = s[size:]
	}
	return dst, !grouped || run == 3
}

// thousands is the length of the sign between thousands that a text begins with, 0 if it begins with none.
func thousands(s []byte) int {
	for _, gap := range [...]string{".", " ", "'", "\u00a0", "\u202f", "\u2019"} {
		if len(s) >= len(gap) && string(s[:len(gap)]) == gap {
			return len(gap)
		}
	}
	return 0
}

// maxExponent bounds the exponents that are told apart: beyond it every number overflows or is nothing.
const maxExponent = 1 << 40

// parseExponent reads what follows the digits at s[i:]: e or E, an optional sign, digits, the end.
func parseExponent[T string | []byte](s T, i int) (int, error) {
	if s[i] != 'e' && s[i] != 'E' {
		return 0, ErrMoneySyntax
	}
	i++
	neg := false
	if i < len(s) && (s[i] == '-' || s[i] == '+') {
		neg = s[i] == '-'
		i++
	}
	if i == len(s) {
		return 0, ErrMoneySyntax
	}
	exp := 0
	for ; i < len(s); i++ {
		d := s[i] - '0'
		if d > 9 {
			return 0, ErrMoneySyntax
		}
		exp = min(exp*10+int(d), maxExponent)
	}
	if neg {
		exp = -exp
	}
	return exp, nil
}

// scaleDecimal returns mantissa times 10^shift with its sign; next and sticky say what digits follow the mantissa's last.
func scaleDecimal(mantissa uint64, shift int, next byte, sticky, neg bool) (int64, bool, error) {
	rounded := next != 0 || sticky
	switch {
	case mantissa == 0: // and so nothing follows
	case shift >= len(pow10):
		return 0, false, ErrMoneyOverflow
	case shift > 0: // with digits following, the mantissa has 19 and this overflows
		hi, lo := bits.Mul64(mantissa, pow10[shift])
		if hi != 0 {
			return 0, false, ErrMoneyOverflow
		}
		mantissa = lo
	case shift == 0:
		if next > 5 || next == 5 && (sticky || mantissa&1 == 1) {
			mantissa++
		}
	case -shift >= len(pow10): // less than 10^19 divided by at least 10^20
		mantissa, rounded = 0, true
	default:
		p := pow10[-shift]
		q, r := mantissa/p, mantissa%p
		if half := p - r; r > half || r == half && (rounded || q&1 == 1) {
			q++
		}
		mantissa, rounded = q, rounded || r != 0
	}
	if mantissa > math.MaxInt64 {
		return 0, false, ErrMoneyOverflow
	}
	if neg {
		return -int64(mantissa), rounded, nil
	}
	return int64(mantissa), rounded, nil
}
