package main

import (
	"maps"
	"os"
	"path/filepath"
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
