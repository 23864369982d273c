package config

import (
	"bytes"
	"encoding"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
)

// Print writes the effective configuration as YAML: every key with its value or default, in the order of the reference,
// secrets masked. The same configuration is always the same text.
func (c *Config) Print(w io.Writer) error {
	var p printer
	p.structure(reflect.ValueOf(c).Elem(), "")
	if p.err != nil {
		return p.err
	}
	_, err := w.Write(p.buf.Bytes())
	return err
}

// printer writes values as block YAML.
type printer struct {
	buf bytes.Buffer
	err error
}

func (p *printer) structure(v reflect.Value, indent string) {
	for i := range v.NumField() {
		key, inline, ok := keyOf(v.Type().Field(i))
		switch {
		case !ok:
		case inline:
			p.structure(v.Field(i), indent)
		case v.Field(i).Kind() == reflect.Pointer && v.Field(i).IsNil(), omitted(v, i):
			// Nothing is configured, and there is no default to show.
		case fromFile(v, i):
			p.buf.WriteString(indent + key + ": \"\"\n") // It stands in the file that the next key names.
		default:
			p.buf.WriteString(indent + quote(key) + ":")
			p.value(v.Field(i), indent+"  ")
		}
	}
}

// omitted is true for an empty value whose key is only written when it says something.
func omitted(v reflect.Value, i int) bool {
	_, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
	f := v.Field(i)
	return strings.Contains(options, "omitempty") && (f.IsZero() || f.Kind() == reflect.Map && f.Len() == 0)
}

// fromFile is true for a secret that was read from the file that its struct names.
func fromFile(v reflect.Value, i int) bool {
	if v.Field(i).Type() != reflect.TypeFor[Secret]() {
		return false
	}
	f := v.FieldByName(v.Type().Field(i).Name + "File")
	return f.IsValid() && f.String() != ""
}

// value writes what stands behind a colon, with its line end.
func (p *printer) value(v reflect.Value, indent string) {
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	switch {
	case isTextOut(v):
		p.line(quoteUnlessPlain(v, text(v)))
	case isScalarType(v.Type()):
		p.foreign(v, indent)
	case v.Kind() == reflect.Struct:
		p.buf.WriteByte('\n')
		p.structure(v, indent)
	case v.Kind() == reflect.Map:
		p.table(v, indent)
	case v.Kind() == reflect.Slice:
		p.list(v, indent)
	default:
		p.line(quoteUnlessPlain(v, scalarOf(v)))
	}
}

func (p *printer) line(s string) { p.buf.WriteString(" " + s + "\n") }

func (p *printer) table(v reflect.Value, indent string) {
	if v.Len() == 0 {
		p.line("{}")
		return
	}
	p.buf.WriteByte('\n')
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(text(a), text(b)) })
	for _, k := range keys {
		p.buf.WriteString(indent + quote(text(k)) + ":")
		p.value(v.MapIndex(k), indent+"  ")
	}
}

func (p *printer) list(v reflect.Value, indent string) {
	if v.Len() == 0 {
		p.line("[]")
		return
	}
	p.buf.WriteByte('\n')
	for i := range v.Len() {
		var item printer
		item.value(v.Index(i), indent+"  ")
		p.buf.WriteString(indent + "- " + strings.TrimLeft(item.buf.String(), " \n"))
		if item.err != nil {
			p.err = item.err
		}
	}
}

// foreign writes a type that knows its own YAML form.
func (p *printer) foreign(v reflect.Value, indent string) {
	b, err := yaml.Marshal(v.Interface())
	if err != nil {
		p.err = err
		return
	}
	s := strings.TrimRight(strings.ReplaceAll(string(b), "${", "$${"), "\n")
	if !strings.Contains(s, "\n") && !strings.Contains(s, ": ") {
		p.line(s)
		return
	}
	p.buf.WriteByte('\n')
	for line := range strings.SplitSeq(s, "\n") {
		p.buf.WriteString(indent + line + "\n")
	}
}

func isTextOut(v reflect.Value) bool {
	_, ok := v.Interface().(encoding.TextMarshaler)
	return ok
}

func scalarOf(v reflect.Value) string {
	switch {
	case v.Kind() == reflect.String:
		return v.String()
	case v.Kind() == reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case v.CanInt():
		return strconv.FormatInt(v.Int(), 10)
	case v.CanUint():
		return strconv.FormatUint(v.Uint(), 10)
	case v.CanFloat():
		return strconv.FormatFloat(v.Float(), 'f', -1, 64)
	}
	return fmt.Sprint(v.Interface())
}

func quoteUnlessPlain(v reflect.Value, s string) string {
	if v.Kind() != reflect.String {
		return s
	}
	return quote(s)
}

var (
	plainText = regexp.MustCompile(`^[A-Za-z0-9_./][A-Za-z0-9_./@+-]*(:[A-Za-z0-9_./@+-]+)*$`)
	looksElse = regexp.MustCompile(`^(?i:[0-9.+-]+([eE].*)?|0[xo].*|true|false|null|yes|no|on|off|y|n|.*:[0-9.]+|\.inf|\.nan|[0-9_]+)$`)
	hostPort  = regexp.MustCompile(`^[A-Za-z0-9.-]*[A-Za-z.-][A-Za-z0-9.-]*:[0-9]+$`)
)

// quote writes a text so that it is read back as the same text, and no more noisily than needed.
func quote(s string) string {
	s = strings.ReplaceAll(s, "${", "$${")
	if plainText.MatchString(s) && (!looksElse.MatchString(s) || hostPort.MatchString(s)) {
		return s
	}
	return strconv.Quote(s)
}
