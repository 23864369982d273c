package event

import (
	"errors"
	"fmt"
	"strings"
)

// Mapping tells how the records of one feed, in a company's own form, are read as the contract's events. It is compiled
// once by NewDecoder; the zero Mapping reads the contract's own form.
type Mapping struct {
	// CloudEvents reads CloudEvents in structured mode: paths then start inside the member data, and "ce:NAME" is the
	// attribute NAME of the envelope. Without fields, id and time are taken from the envelope where the data has none. In
	// binary mode the value is the data already: leave this out.
	CloudEvents bool `yaml:"cloudevents,omitempty"`
	// Key says what the record's key is. check (default): the customer id, if it is not null; a record whose customer_id
	// differs is refused. customer: the same, and the key stands in for a customer_id that the value does not name.
	// ignore: nothing; use it only if records lie in the customer's partition all the same.
	Key string `yaml:"key,omitempty"`
	// Tombstone says what becomes of a null value: reject (default, except in the customers feed) or ignore.
	Tombstone string `yaml:"tombstone,omitempty"`
	// Fields says where each field of the contract lies, by the contract's name; one that is not listed is absent. Left out:
	// the record has the contract's own names. A field is a path (data.object.customer: names separated by dots, "\." for
	// a dot inside a name, not into arrays), a list of paths of which the first that has a value counts, or {const: VALUE}. type
	// may be {path: PATH, and: PATHS}: their values are added to the type, each behind a "/". amount may be {path: PATH,
	// minus: PATH}: the second is taken off.
	Fields map[string]Field `yaml:"fields,omitempty"`
	// Types says what each type of the record is in the contract: a type of the contract, ignore, or {type: TYPE} with fields
	// beside it that lie elsewhere for this type. Looked up are the type with what "and" adds to it, the type alone, the
	// contract's own name, and "*" for all others. With "*" the contract's own names count only where they are listed. What
	// is not found is refused as unknown_type (in complaints taken as a note, in usage as a use).
	Types map[string]TypeRule `yaml:"types,omitempty"`
	// Priorities says which of low, normal, high, urgent, critical each value of priority is. Values that are not listed are
	// read as those names.
	Priorities map[string]string `yaml:"priorities,omitempty"`
	// Outcomes says which of ok, failed, dropped, busy, blocked, degraded, abandoned each value of outcome is. Values that
	// are not listed are read as those names.
	Outcomes map[string]string `yaml:"outcomes,omitempty"`
	// Initiators says which of customer, company, bank each value of initiator is. Values that are not listed are read as
	// those names.
	Initiators map[string]string `yaml:"initiators,omitempty"`
	// Actors says which of customer, agent, system each value of actor is. Values that are not listed are read as those
	// names.
	Actors map[string]string `yaml:"actors,omitempty"`
	// Time is how all times of the record are written.
	Time TimeForm `yaml:"time,omitempty"`
	// DecimalComma reads texts of decimal numbers (amounts, balances, quantities, scores, margins) with a comma before the
	// decimals: "10,84", "1.234,56", "1 234,56". A point then stands between thousands only; where it does not, the text is
	// refused. JSON numbers are read as they are.
	DecimalComma bool `yaml:"decimal_comma,omitempty"`
	// Amount is how amounts are written. Numbers and texts are both read.
	Amount AmountForm `yaml:"amount,omitempty"`
}

// TimeForm is how times are written.
type TimeForm struct {
	// Format is rfc3339 (default), epoch_s, epoch_ms (numbers or texts, rounded to the millisecond), or a layout of the Go
	// package time, such as "2006-01-02 15:04:05".
	Format string `yaml:"format,omitempty"`
	// Zone is the IANA zone of times that name none. A layout without a zone needs it; with rfc3339 it allows the zone to
	// be left out. A time that the clocks show twice, in autumn, is one of the two.
	Zone string `yaml:"zone,omitempty"`
	// Missing says what becomes of a record without a time: reject (default) or record_timestamp, which takes Kafka's.
	Missing string `yaml:"missing,omitempty"`
}

// AmountForm is how amounts are written.
type AmountForm struct {
	// MinorUnits reads amounts as cents, pence, yen, with the decimals that ISO 4217 gives the currency.
	MinorUnits bool `yaml:"minor_units,omitempty"`
	// Decimals is how many decimals minor units have, for all currencies, where that is not what ISO 4217 says: 0 to 12.
	Decimals *int `yaml:"decimals,omitempty"`
	// DecimalsByCurrency is the same for single currencies, by their code; it goes before decimals.
	DecimalsByCurrency map[string]int `yaml:"decimals_by_currency,omitempty"`
	// Signed reads a negative purchase or charge as a refund, and a negative refund or chargeback as a positive one. Left
	// out, negative amounts are refused (except in a balance).
	Signed bool `yaml:"signed,omitempty"`
}

// Field says where a field of the contract comes from. In YAML it is a path, a list of paths of which the first that
// has a value counts, or a mapping with const, or with path and, beside it, and or minus.
//
// A path is a list of names separated by dots, "data.object.customer"; a dot inside a name is written "\.". It does not
// reach into arrays.
type Field struct {
	Paths []string // the first that has a value counts
	Const *string  // this value, always
	And   []string // only for type: paths whose values are added to the type, each after a "/", if they have one
	Minus string   // only for amount: path of an amount that is taken off, if it has a value
}

// fieldForm is the long form of a Field in YAML.
type fieldForm struct {
	Const any    `yaml:"const,omitempty"`
	Path  any    `yaml:"path,omitempty"`
	And   any    `yaml:"and,omitempty"`
	Minus string `yaml:"minus,omitempty"`
}

var errFieldForm = errors.New(`want a path, a list of paths, {const: VALUE}, or {path: PATH} with "and" or "minus"`)

// UnmarshalYAML reads the forms that Field describes.
func (f *Field) UnmarshalYAML(unmarshal func(any) error) error {
	if paths, ok := scalarOrList(unmarshal); ok {
		*f = Field{Paths: paths}
		return nil
	}
	var long fieldForm
	if err := unmarshal(&long); err != nil {
		return fmt.Errorf("%w: %w", errFieldForm, err)
	}
	*f = Field{Minus: long.Minus}
	var ok, andOK bool
	if long.Const != nil {
		if long.Path != nil || long.And != nil || long.Minus != "" {
			return errFieldForm
		}
		text, ok := scalarText(long.Const)
		if !ok {
			return errFieldForm
		}
		f.Const = &text
		return nil
	}
	f.Paths, ok = texts(long.Path)
	f.And, andOK = texts(long.And)
	if !ok || !andOK || len(f.Paths) == 0 {
		return errFieldForm
	}
	return nil
}

// MarshalYAML writes the shortest form.
func (f Field) MarshalYAML() (any, error) {
	if f.Const != nil {
		return map[string]string{"const": *f.Const}, nil
	}
	var paths any = f.Paths
	if len(f.Paths) == 1 {
		paths = f.Paths[0]
	}
	if len(f.And) == 0 && f.Minus == "" {
		return paths, nil
	}
	long := fieldForm{Path: paths, Minus: f.Minus}
	if len(f.And) > 0 {
		long.And = f.And
	}
	return long, nil
}

// TypeRule says what a type of the record is in the contract. In YAML it is a type name of the contract or "ignore", or
// a mapping with type and, beside it, fields that are read elsewhere for this type.
type TypeRule struct {
	Type   string
	Fields map[string]Field
}

// UnmarshalYAML reads the two forms that TypeRule describes.
func (r *TypeRule) UnmarshalYAML(unmarshal func(any) error) error {
	if names, ok := scalarOrList(unmarshal); ok && len(names) == 1 {
		*r = TypeRule{Type: names[0]}
		return nil
	}
	var long map[string]Field
	if err := unmarshal(&long); err != nil {
		return fmt.Errorf("want a type name or a mapping with type and fields: %w", err)
	}
	name := long["type"]
	if len(name.Paths) != 1 || len(name.And) > 0 || name.Minus != "" {
		return errors.New("want a type name or a mapping with type and fields: type is missing")
	}
	delete(long, "type")
	*r = TypeRule{Type: name.Paths[0], Fields: long}
	return nil
}

// MarshalYAML writes the shortest form.
func (r TypeRule) MarshalYAML() (any, error) {
	if len(r.Fields) == 0 {
		return r.Type, nil
	}
	long := map[string]any{"type": r.Type}
	for name, f := range r.Fields {
		long[name] = f
	}
	return long, nil
}

// scalarOrList reads a scalar or a list of scalars.
func scalarOrList(unmarshal func(any) error) ([]string, bool) {
	var v any
	if err := unmarshal(&v); err != nil {
		return nil, false
	}
	list, ok := texts(v)
	return list, ok && len(list) > 0
}

// texts returns the scalars of a scalar or a list; nil for nil.
func texts(v any) ([]string, bool) {
	if v == nil {
		return nil, true
	}
	if list, ok := v.([]any); ok {
		out := make([]string, 0, len(list))
		for _, x := range list {
			s, ok := scalarText(x)
			if !ok {
				return nil, false
			}
			out = append(out, s)
		}
		return out, true
	}
	s, ok := scalarText(v)
	return []string{s}, ok
}

func scalarText(v any) (string, bool) {
	switch v.(type) {
	case string, bool, int, int64, uint64, float64:
		return fmt.Sprint(v), true
	default:
		return "", false
	}
}

// MappingError is one fault of a Mapping. NewDecoder joins all of them with errors.Join.
type MappingError struct {
	Path    []string // the keys down to the fault, from the mapping on: "types", "charge.refunded"
	Message string   // what is wrong, and what to write instead
}

// Error returns path and message.
func (e *MappingError) Error() string { return strings.Join(e.Path, ": ") + ": " + e.Message }

// splitPath splits a path into its names.
func splitPath(path string) []string {
	var out []string
	var name []byte
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '\\' && i+1 < len(path) && (path[i+1] == '.' || path[i+1] == '\\'):
			i++
			name = append(name, path[i])
		case c == '.':
			out = append(out, string(name))
			name = nil
		default:
			name = append(name, c)
		}
	}
	return append(out, string(name))
}
