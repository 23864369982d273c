package arrows

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "ebb/"

// root of the repository, seen from this package's directory, where its tests run.
const root = "../../../.."

// source is one parsed Go file.
type source struct {
	pkg  string // import path without the module, "stream/event"
	name string // file name
	ast  *ast.File
	fset *token.FileSet
}

func (s *source) path() string { return s.pkg + "/" + s.name }
func (s *source) test() bool {
	return strings.HasSuffix(s.name, "_test.go") || strings.HasPrefix(s.pkg+"/", "stream/kafkatest/")
}

func (s *source) imports() []string {
	var all []string
	for _, i := range s.ast.Imports {
		p, _ := strconv.Unquote(i.Path.Value)
		all = append(all, p)
	}
	return all
}

func (s *source) at(n ast.Node) string {
	return s.path() + ":" + strconv.Itoa(s.fset.Position(n.Pos()).Line)
}

// sources returns every Go file of the module; test data and hidden directories are left out.
func sources(t *testing.T) []*source {
	t.Helper()
	all, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("no Go file was found")
	}
	return all
}

var parsed = sync.OnceValues(parse)

func parse() (all []*source, err error) {
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); n == "testdata" || n == "bin" || strings.HasPrefix(n, ".") && p != root {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, p, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		all = append(all, &source{pkg: path.Dir(rel), name: path.Base(rel), ast: f, fset: fset})
		return nil
	})
	return all, err
}

// layer is a place in the order of the imports: a package may import what has a smaller layer, nothing else.
// Packages of the wire layer may import each other too, and nothing of what a customer is.
type layer int

const (
	leaf     layer = iota // stream/event, stream/partition
	wire                  // stream/conn, stream/fetch, ...: how Kafka is spoken
	customer              // state/customer
	store                 // state
	detect                // detectors
	alert                 // alerts
	task                  // stream
	program               // cmd
	outside               // of the order: an error
)

func layerOf(pkg string) layer {
	switch {
	case pkg == "stream/event", pkg == "stream/partition":
		return leaf
	case pkg == "stream":
		return task
	case under(pkg, "stream"):
		return wire
	case under(pkg, "state/customer"):
		return customer
	case under(pkg, "state"):
		return store
	case under(pkg, "detectors"):
		return detect
	case under(pkg, "alerts"):
		return alert
	case under(pkg, "cmd"):
		return program
	}
	return outside
}

func under(pkg, dir string) bool { return pkg == dir || strings.HasPrefix(pkg, dir+"/") }

// allowed says whether a package may import another: down the order only; within wire and within cmd also sideways.
func allowed(from, to string) bool {
	a, b := layerOf(from), layerOf(to)
	switch {
	case a == leaf:
		return false // leaves import nothing of ebb
	case a == wire:
		return b == leaf || b == wire
	case b == wire:
		return a == task || a == program
	case a == program && b == program:
		return true
	case a == b:
		return under(from, path.Dir(to)) || under(to, from) // state over its own sub-packages
	}
	return b < a && b != outside
}

func TestArrows(t *testing.T) {
	for _, s := range sources(t) {
		if layerOf(s.pkg) == outside {
			t.Errorf("%s: Go code belongs into cmd, stream, alerts, detectors or state", s.path())
		}
		if s.test() {
			continue // tests may look up; the compiler forbids cycles
		}
		for _, imp := range s.imports() {
			to, own := strings.CutPrefix(imp, module)
			if own && !allowed(s.pkg, to) {
				t.Errorf("%s imports %s: the order is cmd > stream > alerts > detectors > state > state/customer > stream/event, and the packages under stream know only each other and the leaves", s.path(), imp)
			}
			if own && under(to, "stream/kafkatest") {
				t.Errorf("%s imports %s, which is for tests", s.path(), imp)
			}
		}
	}
}

func TestAllowed(t *testing.T) {
	tests := []struct {
		from, to string
		want     bool
	}{
		{"cmd/ebb/internal/app", "stream", true},
		{"cmd/ebb/internal/app", "stream/conn", true},
		{"cmd/ebb", "cmd/ebb/internal/cli", true},
		{"stream", "alerts", true},
		{"stream", "state", true},
		{"stream", "stream/fetch", true},
		{"stream", "cmd/ebb/internal/app", false},
		{"stream/fetch", "stream/conn", true},
		{"stream/fetch", "stream/event", true},
		{"stream/fetch", "state/customer", false},
		{"stream/fetch", "stream", false},
		{"stream/event", "stream/partition", false},
		{"alerts", "detectors", true},
		{"alerts", "stream/conn", false},
		{"detectors", "alerts", false},
		{"detectors", "state/customer", true},
		{"state", "state/customer", true},
		{"state", "detectors", false},
		{"state/customer", "state", false},
		{"state/customer", "stream/event", true},
	}
	for _, tt := range tests {
		if got := allowed(tt.from, tt.to); got != tt.want {
			t.Errorf("%s may import %s: %v, want %v", tt.from, tt.to, got, tt.want)
		}
	}
}

// TestLibrariesInTheirPlaces: kafka-go is known below stream only, Badger in state only, Prometheus in metrics.go files only
// (and where the registry is made and served), the other client where the demo starts its broker and where the
// bench measures. So each can be replaced.
func TestLibrariesInTheirPlaces(t *testing.T) {
	rules := []struct {
		lib   string
		where string
		ok    func(s *source) bool
	}{
		{"github.com/segmentio/kafka-go", "below stream", func(s *source) bool { return s.pkg != "stream" && under(s.pkg, "stream") }},
		{"github.com/dgraph-io/badger", "in state", func(s *source) bool { return s.pkg == "state" }},
		{"github.com/prometheus/client_golang", "in metrics.go files", func(s *source) bool { return s.name == "metrics.go" }},
		{"github.com/twmb/franz-go", "in the demo, which starts the embedded broker, and in the bench, which must not judge ebb by ebb's own client", func(s *source) bool {
			return under(s.pkg, "cmd/ebb/internal/demo") || under(s.pkg, "cmd/ebb/internal/bench")
		}},
	}
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		for _, imp := range s.imports() {
			for _, r := range rules {
				if strings.HasPrefix(imp, r.lib) && !r.ok(s) {
					t.Errorf("%s imports %s, which has its place %s", s.path(), imp, r.where)
				}
			}
		}
	}
}

// TestPurePackages: what decides has no way to the outside: no clock, no I/O, no randomness, no log.
func TestPurePackages(t *testing.T) {
	impure := []string{"os", "net", "net/http", "log", "log/slog", "math/rand", "math/rand/v2", "crypto/rand", "io/fs", "syscall", "context"}
	pure := []string{"stream/event", "stream/partition", "state/customer", "detectors", "alerts"}
	for _, s := range sources(t) {
		if s.test() || !slices.Contains(pure, s.pkg) {
			continue
		}
		for _, imp := range s.imports() {
			if slices.Contains(impure, imp) {
				t.Errorf("%s imports %s: the packages that decide are pure", s.path(), imp)
			}
		}
	}
}

// TestWallClock: the wall clock enters in a main.go and in tests; all else is given it. Only so a backtest and a test in
// virtual time run the same code.
func TestWallClock(t *testing.T) {
	for _, s := range sources(t) {
		if s.test() || s.name == "main.go" && s.ast.Name.Name == "main" {
			continue
		}
		eachTimeCall(s, func(n ast.Node, name string) {
			if name == "Now" || name == "Since" || name == "Until" || name == "Sleep" {
				t.Errorf("%s: time.%s: take Now func() time.Time, or wait on a timer or a condition", s.at(n), name)
			}
		})
	}
}

// TestNoSleepingTests: a test that sleeps is slow or flaky, mostly both. In a synctest bubble sleeping costs nothing.
func TestNoSleepingTests(t *testing.T) {
	for _, s := range sources(t) {
		if !s.test() || slices.Contains(s.imports(), "testing/synctest") {
			continue
		}
		eachTimeCall(s, func(n ast.Node, name string) {
			if name == "Sleep" {
				t.Errorf("%s: time.Sleep: wait for a condition, or use testing/synctest", s.at(n))
			}
		})
	}
}

// eachTimeCall calls fn for each use of a function of package time.
func eachTimeCall(s *source, fn func(n ast.Node, name string)) {
	if !slices.Contains(s.imports(), "time") {
		return
	}
	ast.Inspect(s.ast, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" && x.Obj == nil {
				fn(n, sel.Sel.Name)
			}
		}
		return true
	})
}

func TestPackageDocs(t *testing.T) {
	docs := map[string]string{}
	for _, s := range sources(t) {
		if strings.HasSuffix(s.name, "_test.go") {
			continue
		}
		if _, ok := docs[s.pkg]; !ok {
			docs[s.pkg] = ""
		}
		if s.ast.Doc != nil && len(s.ast.Doc.Text()) > len(docs[s.pkg]) {
			docs[s.pkg] = s.ast.Doc.Text()
		}
	}
	for pkg, doc := range docs {
		switch {
		case doc == "":
			t.Errorf("%s has no doc comment: say what it is for, which invariants it keeps, what it refuses to do", pkg)
		case len(strings.Fields(doc)) < 20:
			t.Errorf("%s: its doc comment is too short to say anything: %q", pkg, doc)
		}
	}
}
