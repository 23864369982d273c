package config

import (
	"encoding/json"
	"io"
	"reflect"
	"strings"

	"ebb/detectors"
)

// reference is the pattern of a scalar that refers to the environment, allowed wherever a number or word is.
const reference = `\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}`

// Schema writes the JSON Schema (draft 2020-12) of the configuration file, for editors that complete and check YAML.
func Schema(w io.Writer) error {
	root := describeConfig(docs())
	s := root.structSchema()
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "ebb configuration"
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(s)
}

type schema = map[string]any

func (f *field) structSchema() schema {
	properties := schema{}
	var required []string
	for _, c := range f.children {
		properties[c.key] = c.schema()
		if c.required {
			required = append(required, c.key)
		}
	}
	s := schema{"type": "object", "additionalProperties": false, "properties": properties}
	if required != nil {
		s["required"] = required
	}
	return s
}

func (f *field) schema() schema {
	s := f.typeSchema(f.typ)
	if d := f.description(); d != "" {
		s["description"] = d
	}
	if def, ok := f.defaultJSON(); ok {
		s["default"] = def
	}
	return s
}

func (f *field) typeSchema(t reflect.Type) schema {
	switch {
	case t == reflect.TypeFor[Duration](), t == reflect.TypeFor[detectors.Duration]():
		return schema{"type": "string", "pattern": `^(0|([0-9.]+(ns|us|ms|[smhdw]))+|.*` + reference + `.*)$`}
	case t == reflect.TypeFor[Bytes]():
		return schema{"type": []string{"string", "integer"}, "pattern": `^([0-9.]+ ?([KMGT]i?)?B?|.*` + reference + `.*)$`}
	case len(f.enum) > 0:
		return orReference(schema{"enum": f.enum})
	case isText(reflect.New(t).Elem()):
		return schema{"type": []string{"string", "number"}}
	case isScalarType(t):
		return schema{} // It reads YAML in forms of its own, which cannot be seen from here.
	}
	switch t.Kind() {
	case reflect.Pointer:
		return f.typeSchema(t.Elem())
	case reflect.Struct:
		return f.structSchema()
	case reflect.Map:
		return schema{"type": "object", "additionalProperties": f.elementSchema(t)}
	case reflect.Slice:
		s := schema{"type": "array", "items": f.elementSchema(t)}
		if t.Elem().Kind() == reflect.String {
			return schema{"anyOf": []schema{s, {"type": "string"}}}
		}
		return s
	case reflect.Bool:
		return orReference(schema{"type": "boolean"})
	case reflect.String:
		return schema{"type": []string{"string", "number"}}
	default:
		return orReference(f.numberSchema(t))
	}
}

func (f *field) elementSchema(t reflect.Type) schema {
	if len(f.children) > 0 {
		return f.structSchema()
	}
	elem := &field{}
	return elem.typeSchema(t.Elem())
}

func (f *field) numberSchema(t reflect.Type) schema {
	s := schema{"type": "integer"}
	if t.Kind() == reflect.Float64 || t.Kind() == reflect.Float32 {
		s["type"] = "number"
	}
	low, high, _ := strings.Cut(f.span, "..")
	if low != "" {
		s["minimum"] = json.Number(low)
	}
	if high != "" {
		s["maximum"] = json.Number(high)
	}
	return s
}

func orReference(s schema) schema {
	return schema{"anyOf": []schema{s, {"type": "string", "pattern": reference}}}
}

// defaultJSON is the default of a single value; structures show those of their keys.
func (f *field) defaultJSON() (any, bool) {
	if f.fallback != "" {
		if n := json.Number(f.fallback); f.typ.Kind() == reflect.Int {
			return n, true
		}
		return f.fallback, true
	}
	v := f.value
	if !v.IsValid() || f.required || len(f.children) > 0 || v.IsZero() && (v.Kind() == reflect.String || v.Kind() == reflect.Pointer) {
		return nil, false
	}
	switch {
	case isTextOut(v):
		return text(v), text(v) != ""
	case v.Kind() == reflect.Bool:
		return v.Bool(), true
	case v.Kind() == reflect.String:
		return v.String(), true
	case v.CanInt() || v.CanFloat() || v.CanUint():
		return json.Number(scalarOf(v)), true
	}
	return nil, false
}

// description is the field's comment with its range.
func (f *field) description() string {
	d := f.doc
	if f.span != "" {
		d += " Range: " + spanText(f.span) + "."
	}
	if f.said != "" {
		d += " Range: " + f.said
	}
	return strings.TrimSpace(d)
}
