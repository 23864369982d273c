package config

import (
	_ "embed"
	"encoding"
	"encoding/json"
	"path"
	"reflect"
	"strings"
	"sync"
)

// fieldDocs are the comments of all configurable fields, by package.Type.Field, and of their
// types by package.Type, taken from the sources by go generate.
//
//go:embed fielddocs.json
var fieldDocs []byte

// docs is parsed once: the texts never change while the program runs.
var docs = sync.OnceValue(func() map[string]string {
	m := map[string]string{}
	if err := json.Unmarshal(fieldDocs, &m); err != nil {
		panic("fielddocs.json is not what gen writes: " + err.Error())
	}
	return m
})

// fieldSet is a struct as the reader sees it.
type fieldSet struct {
	keys  []string
	byKey map[string]reflect.Value
}

func fieldsOf(v reflect.Value) fieldSet {
	set := fieldSet{byKey: map[string]reflect.Value{}}
	for i := range v.NumField() {
		key, inline, ok := keyOf(v.Type().Field(i))
		switch {
		case !ok:
		case inline:
			sub := fieldsOf(v.Field(i))
			set.keys = append(set.keys, sub.keys...)
			for k, f := range sub.byKey {
				set.byKey[k] = f
			}
		default:
			set.keys = append(set.keys, key)
			set.byKey[key] = v.Field(i)
		}
	}
	return set
}

// keyOf is the key of a struct field; ok is false for fields that are not configuration.
func keyOf(f reflect.StructField) (key string, inline, ok bool) {
	if !f.IsExported() {
		return "", false, false
	}
	key, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	inline = strings.Contains(options, "inline")
	if key == "-" {
		return "", false, false
	}
	if key == "" {
		key = strings.ToLower(f.Name)
	}
	return key, inline, true
}

// field describes one key, for the schema, the reference, and suggestions.
type field struct {
	key      string
	path     string // dotted; lists as name[], tables as name.KEY
	doc      string
	typ      reflect.Type
	value    reflect.Value // the default
	span     string        // range tag
	said     string        // the range in words, where there is no tag
	enum     []string
	required bool
	fallback string   // default tag, for elements of lists
	children []*field // of a struct, or of a list's or table's elements
}

// describeConfig is the tree of all keys with their defaults.
func describeConfig(docs map[string]string) *field {
	def := Default()
	root := &field{typ: reflect.TypeFor[Config](), value: reflect.ValueOf(&def).Elem()}
	root.children = describer{docs}.fields(root.value, "")
	return root
}

// describer builds the tree of keys with the comments of their fields.
type describer struct{ docs map[string]string }

func (d describer) fields(v reflect.Value, prefix string) []*field {
	var list []*field
	for i := range v.NumField() {
		sf := v.Type().Field(i)
		key, inline, ok := keyOf(sf)
		switch {
		case !ok:
			continue
		case inline:
			list = append(list, d.fields(v.Field(i), prefix)...)
			continue
		}
		f := &field{
			key:      key,
			path:     join(prefix, key),
			doc:      d.docs[docKey(v.Type(), sf.Name)],
			typ:      sf.Type,
			value:    v.Field(i),
			span:     sf.Tag.Get("range"),
			required: sf.Tag.Get("required") == "true",
			fallback: sf.Tag.Get("default"),
			said:     d.docs[docKey(v.Type(), sf.Name)+"#range"],
		}
		if f.doc == "" {
			f.doc = d.docs[typeKey(sf.Type)]
		}
		if enum := sf.Tag.Get("enum"); enum != "" {
			f.enum = strings.Split(enum, "|")
		}
		f.children = d.nested(v.Field(i), f.path)
		list = append(list, f)
	}
	return list
}

func (d describer) nested(v reflect.Value, prefix string) []*field {
	t := v.Type()
	switch {
	case isScalarType(t):
		return nil
	case t.Kind() == reflect.Pointer:
		return d.nested(reflect.New(t.Elem()).Elem(), prefix)
	case t.Kind() == reflect.Struct:
		return d.fields(v, prefix)
	case t.Kind() == reflect.Slice:
		return d.nested(reflect.New(t.Elem()).Elem(), prefix+"[]")
	case t.Kind() == reflect.Map:
		return d.nested(reflect.New(t.Elem()).Elem(), prefix+".KEY")
	}
	return nil
}

// isScalarType is true for types that are written as one value, or that read YAML themselves.
func isScalarType(t reflect.Type) bool {
	v := reflect.New(t).Elem()
	return isText(v) || t.Kind() != reflect.Pointer && custom(v)
}

func docKey(t reflect.Type, name string) string {
	return typeKey(t) + "." + name
}

func typeKey(t reflect.Type) string { return path.Base(t.PkgPath()) + "." + t.Name() }

// guess is the path of the key that somebody may have meant who wrote this one at another place or in one word, such as state_dir, or knows it from
// elsewhere; empty if there is none.
func (f *field) guess(key string) string {
	if p := f.find(key); p != "" {
		return p
	}
	if p := f.joined(letters(key)); p != "" {
		return p
	}
	switch letters(key) { // names that clients of Kafka and other programs have for it
	case "kafka", "bootstrapservers", "bootstrap", "kafkabrokers", "brokerlist":
		return "brokers"
	case "groupid", "consumergroup", "applicationid":
		return "group"
	case "datadir", "statepath", "datapath":
		return "state.dir"
	case "metrics", "port", "address", "server", "ui":
		return "http.listen"
	case "logging", "logger":
		return "log.level"
	case "ssl":
		return "security.tls"
	case "slack", "notifications", "notify", "alertmanager":
		return "webhooks"
	}
	return ""
}

// joined is the first path that reads like this without its dots, or empty.
func (f *field) joined(word string) string {
	for _, c := range f.children {
		if letters(c.path) == word {
			return c.path
		}
		if p := c.joined(word); p != "" {
			return p
		}
	}
	return ""
}

// letters is a key without what separates its words.
func letters(key string) string {
	return strings.NewReplacer("_", "", ".", "", "-", "").Replace(strings.ToLower(key))
}

// find is the path of the first key of that name anywhere, or empty.
func (f *field) find(key string) string {
	for _, c := range f.children {
		if c.key == key {
			return c.path
		}
		if p := c.find(key); p != "" {
			return p
		}
	}
	return ""
}

// applyDefaults gives the elements of a list the defaults of their tags.
func applyDefaults(v reflect.Value) {
	if v.Kind() != reflect.Struct {
		return
	}
	for i := range v.NumField() {
		if d := v.Type().Field(i).Tag.Get("default"); d != "" {
			if err := setText(v.Field(i), d); err != nil {
				panic("default tag of " + v.Type().Field(i).Name + ": " + err.Error())
			}
		}
	}
}

// text is the scalar as it would be written in the file.
func text(v reflect.Value) string {
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		b, err := m.MarshalText()
		if err == nil {
			return string(b)
		}
	}
	return scalarOf(v)
}
