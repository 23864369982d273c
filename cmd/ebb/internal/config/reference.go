package config

import (
	"fmt"
	"reflect"
	"strings"
)

const referenceHead = `# Configuration

<!-- Written by "make generate" from the comments in the sources. Changes made here are lost. -->

` + "`ebb run -c FILE`" + ` reads one YAML file. Only ` + "`group`, `brokers` and `feeds`" + ` are needed:

` + "```yaml" + `
group: ebb
brokers: [127.0.0.1:9092]
feeds:
  usage: {topic: usage}
  payments: {topic: payments}
  complaints: {topic: complaints}
` + "```" + `

` + "`ebb config check -c FILE`" + ` names everything that is wrong at once, with line and column; ` + "`ebb config print -c FILE`" + ` shows every
value in force, secrets masked; ` + "`ebb config schema`" + ` writes a JSON Schema for editors.
Fields and types of the records, "the contract" below, are in [records.md](records.md).

- A key that is not listed here is a fault, never ignored.
- Any single value may refer to the environment: ` + "`${NAME}`, `${NAME:-default}`" + `. ` + "`$${`" + ` stands for a plain ` + "`${`" + `.
- A list of words may be written as one text with commas, so that ` + "`${KAFKA_BROKERS}`" + ` can name several.
- Durations have units: ` + "`500ms`, `30s`, `10m`, `48h`, `14d`, `2w`, `1h30m`" + `. A day is 24 hours.
- Sizes have units: ` + "`KB`, `MB`, `GB`" + ` are powers of 1000, ` + "`KiB`, `MiB`, `GiB`" + ` of 1024.
- Relative paths of files that ebb reads (certificates, passwords) are taken from the folder of the configuration file;
  ` + "`state.dir`" + ` from where ebb is started.
`

// Reference is docs/configuration.md: every key with meaning, default and range. fieldDocs are the comments of the fields
// by package.Type.Field.
func Reference(fieldDocs map[string]string) string {
	root := describeConfig(fieldDocs)
	var b strings.Builder
	b.WriteString(referenceHead)
	b.WriteString("\n## Top level\n\n")
	table(&b, leaves(root))
	for _, f := range root.children {
		if len(f.children) > 0 {
			section(&b, f, 2)
		}
	}
	return b.String()
}

func leaves(f *field) []*field {
	var list []*field
	for _, c := range f.children {
		if len(c.children) == 0 {
			list = append(list, c)
		}
	}
	return list
}

func section(b *strings.Builder, f *field, depth int) {
	fmt.Fprintf(b, "\n%s `%s`\n", strings.Repeat("#", min(depth, 4)), f.heading())
	if f.doc != "" {
		b.WriteString("\n" + f.doc + "\n")
	}
	if own := leaves(f); len(own) > 0 {
		b.WriteByte('\n')
		table(b, own)
	}
	said := map[reflect.Type]string{}
	for _, c := range f.children {
		if len(c.children) == 0 {
			continue
		}
		if first := said[c.typ]; first != "" {
			fmt.Fprintf(b, "\n%s `%s`\n\n%s\n\nKeys as in `%s`.\n", strings.Repeat("#", min(depth+1, 4)), c.heading(), c.doc, first)
			continue
		}
		said[c.typ] = c.heading()
		section(b, c, depth+1)
	}
}

func (f *field) heading() string {
	switch f.typ.Kind() {
	case reflect.Slice:
		return f.path + "[]"
	case reflect.Map:
		return f.path + ".KEY"
	default:
		return f.path
	}
}

func table(b *strings.Builder, fields []*field) {
	b.WriteString("| key | default | range | meaning |\n|---|---|---|---|\n")
	for _, f := range fields {
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", f.key, f.defaultText(), f.rangeText(), cell(f.doc))
	}
}

func cell(s string) string { return strings.ReplaceAll(s, "|", "\\|") }

func (f *field) defaultText() string {
	if f.required {
		return "needed"
	}
	if f.fallback != "" {
		return code(f.fallback)
	}
	if f.typ.Kind() == reflect.Slice || f.typ.Kind() == reflect.Map || f.typ.Kind() == reflect.Pointer {
		return ""
	}
	if isTextOut(f.value) {
		return code(text(f.value))
	}
	if isScalarType(f.typ) {
		return ""
	}
	return code(scalarOf(f.value))
}

func (f *field) rangeText() string {
	if len(f.enum) > 0 {
		words := make([]string, len(f.enum))
		for i, w := range f.enum {
			words[i] = code(w)
		}
		return strings.Join(words, ", ")
	}
	if f.span != "" {
		return spanText(f.span)
	}
	if f.said != "" {
		return cell(f.said)
	}
	if f.typ.Kind() == reflect.Bool {
		return "`true`, `false`"
	}
	return ""
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

// Undocumented lists the keys that neither a comment of their own nor one of the section around them explains.
func Undocumented(fieldDocs map[string]string) []string {
	var missing []string
	var walk func(f *field)
	walk = func(f *field) {
		for _, c := range f.children {
			if c.doc == "" && f.doc == "" {
				missing = append(missing, c.path)
			}
			walk(c)
		}
	}
	walk(describeConfig(fieldDocs))
	return missing
}
