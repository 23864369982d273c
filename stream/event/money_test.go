package event

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestParseMoney(t *testing.T) {
	for _, c := range []struct {
		rule, in string
		want     Money
		rounded  bool
		err      error
	}{
		{"whole units", "41", 410000, false, nil},
		{"two decimals", "49.90", 499000, false, nil},
		{"an exponent is exact", "4.99e1", 499000, false, nil},
		{"a negative exponent", "4990E-2", 499000, false, nil},
		{"minus zero is zero", "-0.00", 0, false, nil},
		{"a plus sign and leading zeros, as some exports write", "+0012.5", 125000, false, nil},
		{"four decimals are kept", "0.0001", 1, false, nil},
		{"a fifth decimal of zero changes nothing", "0.00010", 1, false, nil},
		{"half goes to the even neighbour, down", "0.00005", 0, true, nil},
		{"half goes to the even neighbour, up", "0.00015", 2, true, nil},
		{"a little more than half goes up", "0.000050000000000000000000000001", 1, true, nil},
		{"negative half goes to even as well", "-0.00025", -2, true, nil},
		{"the largest", "922337203685477.5807", math.MaxInt64, false, nil},
		{"one more overflows", "922337203685477.5808", 0, false, ErrMoneyOverflow},
		{"the largest, reached by rounding a twentieth digit up", "922337203685477.58069", math.MaxInt64, true, nil},
		{"the twentieth digit rounds to even", "922337203685477.58065", math.MaxInt64 - 1, true, nil},
		{"overflow by rounding", "922337203685477.58075", 0, false, ErrMoneyOverflow},
		{"many zeros in front", strings.Repeat("0", 50) + "1", 10000, false, nil},
		{"many zeros behind", "1." + strings.Repeat("0", 50), 10000, false, nil},
		{"a long number that its exponent brings down", "1" + strings.Repeat("0", 40) + "e-40", 10000, false, nil},
		{"1e400", "1e400", 0, false, ErrMoneyOverflow},
		{"1e-400 is nothing, rounded", "1e-400", 0, true, nil},
		{"zero with any exponent", "0e999999999999999999999", 0, false, nil},
		{"an exponent too long to count", "1e999999999999999999999", 0, false, ErrMoneyOverflow},
		{"NaN", "NaN", 0, false, ErrMoneySyntax},
		{"infinity", "Infinity", 0, false, ErrMoneySyntax},
		{"nothing", "", 0, false, ErrMoneySyntax},
		{"only a sign", "-", 0, false, ErrMoneySyntax},
		{"only a point", ".", 0, false, ErrMoneySyntax},
		{"nothing after the point", "1.", 0, false, ErrMoneySyntax},
		{"two points", "1.2.3", 0, false, ErrMoneySyntax},
		{"thousands", "1,234.50", 0, false, ErrMoneySyntax},
		{"blanks", " 1", 0, false, ErrMoneySyntax},
		{"hexadecimal", "0x10", 0, false, ErrMoneySyntax},
		{"an empty exponent", "1e", 0, false, ErrMoneySyntax},
		{"a signed empty exponent", "1e+", 0, false, ErrMoneySyntax},
		{"a fractional exponent", "1e1.5", 0, false, ErrMoneySyntax},
	} {
		t.Run(c.rule, func(t *testing.T) {
			got, rounded, err := ParseMoney(c.in)
			if got != c.want || rounded != c.rounded || !errors.Is(err, c.err) {
				t.Errorf("ParseMoney(%q) = %d, %v, %v; want %d, %v, %v", c.in, got, rounded, err, c.want, c.rounded, c.err)
			}
		})
	}
}

func TestMoneyString(t *testing.T) {
	for _, c := range []struct {
		in   Money
		want string
	}{
		{412000, "41.20"},
		{0, "0.00"},
		{1, "0.0001"},
		{-10, "-0.001"},
		{-499000, "-49.90"},
		{math.MaxInt64, "922337203685477.5807"},
		{math.MinInt64, "-922337203685477.5808"},
	} {
		if got := c.in.String(); got != c.want {
			t.Errorf("%d = %q, want %q", int64(c.in), got, c.want)
		}
	}
}

// ratMoney is the exact reference: a rational number, rounded half to even.
func ratMoney(s string) (m Money, rounded, fits bool) {
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		panic(s)
	}
	r.Mul(r, big.NewRat(int64(MoneyUnit), 1))
	q, rem := new(big.Int).QuoRem(r.Num(), r.Denom(), new(big.Int))
	if twice := new(big.Int).Abs(rem); true {
		switch twice.Lsh(twice, 1).Cmp(r.Denom()) {
		case 1:
			q.Add(q, big.NewInt(int64(r.Sign())))
		case 0:
			if q.Bit(0) == 1 {
				q.Add(q, big.NewInt(int64(r.Sign())))
			}
		}
	}
	if !q.IsInt64() || q.Int64() == math.MinInt64 {
		return 0, false, false
	}
	return Money(q.Int64()), rem.Sign() != 0, true
}

// randomDecimal writes a number that is likely to sit on an edge: many digits, runs of zeros, fives and nines.
func randomDecimal(r *rand.Rand) string {
	var b strings.Builder
	if r.IntN(4) == 0 {
		b.WriteByte('-')
	}
	digit := func() {
		b.WriteByte("0000055999123456789"[r.IntN(19)])
	}
	for range 1 + r.IntN(1+r.IntN(25)) {
		digit()
	}
	if r.IntN(3) > 0 {
		b.WriteByte('.')
		for range 1 + r.IntN(1+r.IntN(25)) {
			digit()
		}
	}
	if r.IntN(3) == 0 {
		fmt.Fprintf(&b, "e%+d", r.IntN(50)-25)
	}
	return b.String()
}

func TestMoneyAgreesWithRationals(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		s := randomDecimal(r)
		want, rounded, fits := ratMoney(s)
		got, gotRounded, err := ParseMoney(s)
		if fits != (err == nil) || got != want || gotRounded != rounded {
			t.Fatalf("ParseMoney(%s) = %d, %v, %v; want %d, %v, fits %v", s, got, gotRounded, err, want, rounded, fits)
		}
		if !fits {
			continue
		}
		if back, _, err := ParseMoney(got.String()); back != got || err != nil {
			t.Fatalf("%q is read back as %d, %v", got, back, err)
		}
	}
}

func TestMoneyMulDivAgreesWithRationals(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 100_000 {
		m := Money(r.Int64() >> r.IntN(63))
		num, den := r.Int64()>>r.IntN(63), 1+r.Int64N(1<<(1+r.IntN(61)))
		if r.IntN(2) == 0 {
			m = -m
		}
		x := new(big.Rat).SetFrac(new(big.Int).Mul(big.NewInt(int64(m)), big.NewInt(num)), big.NewInt(den*1))
		x.Quo(x, big.NewRat(int64(MoneyUnit), 1))
		want, _, fits := ratMoney(x.RatString())
		got, ok := m.MulDiv(num, den)
		if ok != fits || got != want {
			t.Fatalf("%d * %d / %d = %d, %v; want %d, %v", int64(m), num, den, got, ok, want, fits)
		}
	}
}

func TestMoneyAdd(t *testing.T) {
	for _, c := range []struct {
		a, b, want Money
		ok         bool
	}{
		{1, 2, 3, true},
		{5, 0, 5, true},
		{0, 0, 0, true},
		{5, -7, -2, true},
		{math.MaxInt64, 1, math.MinInt64, false},
		{math.MinInt64, -1, math.MaxInt64, false},
		{math.MaxInt64, math.MinInt64, -1, true},
	} {
		if got, ok := c.a.Add(c.b); got != c.want || ok != c.ok {
			t.Errorf("%d + %d = %d, %v; want %d, %v", c.a, c.b, got, ok, c.want, c.ok)
		}
	}
}

// A comma stands before the decimals, and what tells thousands apart stands between thousands or nowhere.
func TestAppendPointed(t *testing.T) {
	for text, want := range map[string]string{
		"0": "0", "10,84": "10.84", "-10,84": "-10.84", "+1,5": "+1.5", "1234,5": "1234.5", "1.234": "1234", "1.234,50": "1234.50", "12.345.678,9": "12345678.9",
		"1 234,50": "1234.50", "1'234": "1234", "1\u00a0234,5": "1234.5", "1\u202f234\u202f567": "1234567", "1\u2019234": "1234", "1,5e3": "1.5e3",
		"10.84": "", "1.2345": "", "1234.567": "", "1.23,4": "", "1,234.5": "", "1,2,3": "", ".123": "", "1..234": "", "1.": "", "1.234.": "", "1, 5": "",
	} {
		got, ok := appendPointed(nil, []byte(text))
		if ok != (want != "") || ok && string(got) != want {
			t.Errorf("%q: %q, %v; want %q", text, got, ok, want)
		}
	}
}
