package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const root = "../../../.."

// Every bug still fits into the tree as it is: the text that it changes is there once, and what it puts there is something else.
func TestBugsFit(t *testing.T) {
	bugs, err := load("testdata")
	if err != nil {
		t.Fatal(err)
	}
	if len(bugs) < 60 {
		t.Errorf("%d bugs, want 60", len(bugs))
	}
	said := map[string]string{}
	for _, b := range bugs {
		if other := said[b.what]; other != "" {
			t.Errorf("%s says the same as %s", b.name, other)
		}
		said[b.what] = b.name
		files := map[string]string{}
		for i := range b.edits {
			e := &b.edits[i]
			content, ok := files[e.path]
			if !ok {
				raw, err := os.ReadFile(filepath.Join(root, e.path))
				if err != nil {
					t.Errorf("%s: %v", b.name, err)
					continue
				}
				content = string(raw)
			}
			changed, err := e.apply(content)
			if err != nil {
				t.Errorf("%s does not fit into %s any more: %v", b.name, e.path, err)
			}
			if changed == content {
				t.Errorf("%s changes nothing in %s", b.name, e.path)
			}
			files[e.path] = changed
		}
	}
}

func TestPlant(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a.go", "one\ntwo\nthree\n")
	write("b.go", "x x\n")
	good := "what is wrong\n\n--- a.go\n<<<<<<<\ntwo\n=======\nzwei\n>>>>>>>\n\n--- a.go\n<<<<<<<\nthree\n=======\n>>>>>>>\n"
	b, err := parse("good", good)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.plant(dir); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "a.go")); string(got) != "one\nzwei\n\n" {
		t.Errorf("a.go is %q", got)
	}
	if err := b.plant(dir); err == nil || !strings.Contains(err.Error(), "0 times") {
		t.Errorf("planted twice: %v", err)
	}
	twice, err := parse("twice", "w\n--- b.go\n<<<<<<<\nx\n=======\ny\n>>>>>>>\n")
	if err != nil {
		t.Fatal(err)
	}
	if err := twice.plant(dir); err == nil || !strings.Contains(err.Error(), "2 times") {
		t.Errorf("the text to find is there twice: %v", err)
	}
	for name, content := range map[string]string{
		"no edits": "w\n", "no description": "\n--- a.go\n<<<<<<<\nx\n=======\ny\n>>>>>>>\n", "no path": "w\n<<<<<<<\nx\n=======\ny\n>>>>>>>\n",
		"nothing to find": "w\n--- a.go\n<<<<<<<\n=======\ny\n>>>>>>>\n", "no end": "w\n--- a.go\n<<<<<<<\nx\n=======\ny\n",
	} {
		if _, err := parse(name, content); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestComplaint(t *testing.T) {
	got := map[string]string{}
	for _, out := range []string{
		"=== RUN   TestSimulation/seed_7\n    check_test.go:21: missing step: c-01 silence\n--- FAIL",
		"panic: deadlock: all is blocked\n\ngoroutine 1",
		"nothing",
	} {
		got[out[:5]] = complaint([]byte(out))
	}
	want := map[string]string{"=== R": "missing step", "panic": "panic: deadlock: all is blocked", "nothi": ""}
	if !maps.Equal(got, want) {
		t.Errorf("complaints are %q", got)
	}
}

func TestTable(t *testing.T) {
	first := &bug{name: "01-one", what: "one is wrong"}
	second := &bug{name: "02-two", what: "two is wrong"}
	doc := "text\n\n" + tableBegin + tableEnd + "\nmore\n"
	for _, r := range []*result{
		{bug: second, seeds: 70, cpu: 9e9},
		{bug: first, caught: true, seeds: 7, seed: 7, by: "missing step", cpu: 15e8},
		{bug: second, caught: true, seeds: 80, test: "TestTwo of state", cpu: 12e9},
	} {
		var err error
		if doc, err = merge(doc, r); err != nil {
			t.Fatal(err)
		}
	}
	want := "text\n\n" + tableBegin + "\n" + tableHead + "\n| 01 | one is wrong | missing step | 7 | 1.5 |\n| 02 | two is wrong | test TestTwo of state | none of 80 | 12.0 |\n\n" +
		"2 of 2 are caught, 1 of them by tests of their packages.\n\n" + tableEnd + "\nmore\n"
	if doc != want {
		t.Errorf("the document is\n%s\nwant\n%s", doc, want)
	}
	if _, err := merge("text\n", &result{bug: first}); err == nil {
		t.Error("a document without a place for the table is taken")
	}
}

func TestFirstFailed(t *testing.T) {
	for out, want := range map[string]string{
		"=== RUN   TestA\n--- PASS: TestA (0.00s)\n=== RUN   TestB\n    b_test.go:1: bad\n--- FAIL: TestB (0.00s)\nFAIL\n": "TestB",
		"=== RUN   TestA\n=== RUN   TestA/sub\npanic: deadlock\n":                                                          "TestA",
		"ok\n": "",
	} {
		if got := firstFailed([]byte(out)); got != want {
			t.Errorf("%q: %q failed, want %q", out, got, want)
		}
	}
}

func TestPackages(t *testing.T) {
	b := &bug{edits: []edit{{path: "stream/cut.go"}, {path: "state/table.go"}, {path: "stream/task.go"}}}
	if got := b.packages(); !slices.Equal(got, []string{"state", "stream"}) {
		t.Errorf("packages %q", got)
	}
}
