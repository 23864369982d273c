// Package fielddoc takes the comments of struct fields out of Go sources, so that the comment a developer reads and the
// documentation a user reads are one text. It is used when code is generated and by tests, never by the running program.
package fielddoc

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
)

// Packages are the folders, from the root of the module, whose structs can be configured.
func Packages() []string {
	return []string{"cmd/ebb/internal/config", "stream/event", "detectors", "detectors/hours"}
}

// Span follows the name of a field in the key of its range: what the source says behind the field, in the same line.
const Span = "#range"

// Extract gives the comments of all exported fields of the structs in the folders by package.Type.Field, their
// ranges by package.Type.Field#range, and the comments of the structs by package.Type, each as one line.
func Extract(root string, folders []string) (map[string]string, error) {
	docs := map[string]string{}
	for _, folder := range folders {
		files, err := filepath.Glob(filepath.Join(root, folder, "*.go"))
		if err != nil {
			return nil, fmt.Errorf("list sources of %s: %w", folder, err)
		}
		if len(files) == 0 {
			return nil, fmt.Errorf("list sources of %s: %w", folder, fs.ErrNotExist)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				return nil, fmt.Errorf("read comments: %w", err)
			}
			collect(f, docs)
		}
	}
	return docs, nil
}

func collect(f *ast.File, docs map[string]string) {
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, s := range g.Specs {
			t, ok := s.(*ast.TypeSpec)
			if !ok {
				continue
			}
			st, ok := t.Type.(*ast.StructType)
			if !ok || !configured(st) {
				continue
			}
			name := f.Name.Name + "." + t.Name.Name
			doc := oneLine(g.Doc)
			if t.Doc != nil {
				doc = oneLine(t.Doc)
			}
			w := newWording(f.Name.Name, t.Name.Name, st)
			docs[name] = w.users(doc)
			fields(name+".", st, w, docs)
		}
	}
}

// configured is true for structs with keys of the configuration.
func configured(st *ast.StructType) bool {
	for _, f := range st.Fields.List {
		if key(f) != "" {
			return true
		}
	}
	return false
}

func key(f *ast.Field) string {
	if f.Tag == nil {
		return ""
	}
	key, _, _ := strings.Cut(reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("yaml"), ",")
	if key == "-" {
		return ""
	}
	return key
}

func fields(prefix string, st *ast.StructType, w wording, docs map[string]string) {
	before := ""
	for _, field := range st.Fields.List {
		if key(field) == "" {
			continue
		}
		doc, span := oneLine(field.Doc), oneLine(field.Comment)
		for _, name := range field.Names {
			// One comment may speak of several fields, and then names them.
			if doc == "" && strings.Contains(before, name.Name) {
				doc = before
			}
			if doc != "" {
				docs[prefix+name.Name] = w.without(name.Name, doc)
			}
			if span != "" {
				docs[prefix+name.Name+Span] = w.users(span)
			}
		}
		if doc != "" {
			before = doc
		}
	}
}

// wording turns the names of Go fields in a comment into the keys that users write. The comments of package config are
// written for users from the start, and are left alone.
type wording struct {
	typ   string // name of the type, without which its comment starts
	names *regexp.Regexp
	keys  map[string]string
}

func newWording(pkg, typ string, st *ast.StructType) wording {
	w := wording{typ: typ, keys: map[string]string{}}
	if pkg == "config" {
		return w
	}
	var names []string
	for _, f := range st.Fields.List {
		for _, n := range f.Names {
			if k := key(f); k != "" {
				names = append(names, n.Name)
				w.keys[n.Name] = "`" + k + "`"
			}
		}
	}
	w.names = regexp.MustCompile(`\b(` + strings.Join(names, "|") + `)\b`)
	return w
}

// without is users for the comment of a field that is called like the thing it speaks of: only its first word is the key.
func (w wording) without(own, doc string) string {
	rest, ok := strings.CutPrefix(doc, own+" ")
	if !ok || w.names == nil {
		return w.users(doc)
	}
	others := w
	others.keys = maps.Clone(w.keys)
	others.keys[own] = own
	return w.keys[own] + " " + others.users(rest)
}

func (w wording) users(doc string) string {
	if w.names != nil {
		doc = w.names.ReplaceAllStringFunc(doc, func(n string) string { return w.keys[n] })
	}
	rest, ok := strings.CutPrefix(doc, w.typ+" ")
	if !ok || rest == "" {
		return doc
	}
	for _, verb := range []string{"is ", "are "} {
		rest = strings.TrimPrefix(rest, verb)
	}
	return strings.ToUpper(rest[:1]) + rest[1:]
}

func oneLine(c *ast.CommentGroup) string {
	return strings.Join(strings.Fields(c.Text()), " ")
}
