package event

// Currency is an ISO 4217 code in upper case. The zero value is no currency said: the reporting currency.
type Currency [3]byte

// NoCurrency is ISO 4217's code for "no currency is involved". It stands for a currency field that is not a code.
var NoCurrency = Currency{'X', 'X', 'X'}

// String returns the code, or "" for the zero value.
func (c Currency) String() string {
	if c == (Currency{}) {
		return ""
	}
	return string(c[:])
}

// ParseCurrency reads a code of three ASCII letters in any case. It does not check that ISO 4217 lists it.
func ParseCurrency(s string) (Currency, bool) { return parseCurrency(s) }

func parseCurrency[T string | []byte](s T) (Currency, bool) {
	if len(s) != 3 {
		return Currency{}, false
	}
	var c Currency
	for i := range c {
		b := s[i] &^ 0x20
		if b < 'A' || b > 'Z' {
			return Currency{}, false
		}
		c[i] = b
	}
	return c, true
}

// Decimals returns how many decimals the currency's minor unit has by ISO 4217: 2 for most, also for unknown ones.
func (c Currency) Decimals() int {
	switch c.String() {
	case "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF":
		return 0
	case "BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND":
		return 3
	case "CLF", "UYW":
		return 4
	default:
		return 2
	}
}
