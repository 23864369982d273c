package config_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"ebb/cmd/ebb/internal/config"
)

// TestEveryKeyDoesSomething: a key that nothing reads would be a promise that is not kept. What a configuration becomes is
// made in package app and in kafka.go; files are read, calendars made, and TLS is set up, while loading.
func TestEveryKeyDoesSomething(t *testing.T) {
	read := map[string]bool{}
	for _, pattern := range []string{"../app/*.go", "../cli/*.go", "kafka.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatal("no sources", pattern, err)
		}
		for _, name := range files {
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					read[s.Sel.Name] = true
				}
				return true
			})
		}
	}
	// What has another name in package app than in the configuration.
	read["Secret"] = read["Secrets"]
	read["Calendars"] = read["Detectors"] // see checkCalendars
	for f := range reflect.TypeFor[config.Feeds]().Fields() {
		read[f.Name] = read["Read"]
	}
	for _, name := range unread(reflect.TypeFor[config.Config](), read) {
		t.Errorf("nothing reads %s", name)
	}
}

func unread(typ reflect.Type, read map[string]bool) []string {
	var missing []string
	for f := range typ.Fields() {
		switch {
		case !f.IsExported(), f.Type == reflect.TypeFor[config.File](), f.Type == reflect.TypeFor[config.TLS]():
			continue
		case !read[f.Name]:
			missing = append(missing, typ.Name()+"."+f.Name)
		}
		inner := f.Type
		if inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct && strings.HasSuffix(inner.PkgPath(), "/config") {
			missing = append(missing, unread(inner, read)...)
		}
	}
	return missing
}
