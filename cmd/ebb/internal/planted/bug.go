package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// bug is one file of testdata.
type bug struct {
	name  string // of the file, without the ending
	what  string
	edits []edit
}

// edit is one place to change. The text to find must be there exactly once; it may begin and end within a line.
type edit struct{ path, find, put string }

const (
	beginFind = "<<<<<<<\n"
	beginPut  = "=======\n"
	endPut    = ">>>>>>>\n"
)

// parse reads a file of testdata.
func parse(name, content string) (*bug, error) {
	what, rest, _ := strings.Cut(content, "\n")
	b := &bug{name: name, what: what}
	for rest = strings.TrimLeft(rest, "\n"); rest != ""; rest = strings.TrimLeft(rest, "\n") {
		var e edit
		var head string
		var ok [3]bool
		head, rest, ok[0] = strings.Cut(rest, beginFind)
		e.find, rest, ok[1] = strings.Cut(rest, beginPut)
		e.put, rest, ok[2] = strings.Cut(rest, endPut)
		path, named := strings.CutPrefix(strings.TrimSpace(head), "--- ")
		if ok != [3]bool{true, true, true} || !named || e.find == "" {
			return nil, fmt.Errorf("%s: an edit is --- PATH, %q, the text to find, %q, the text to put there, %q", name, beginFind, beginPut, endPut)
		}
		e.path, e.find, e.put = path, strings.TrimSuffix(e.find, "\n"), strings.TrimSuffix(e.put, "\n")
		b.edits = append(b.edits, e)
	}
	if b.what == "" || len(b.edits) == 0 {
		return nil, fmt.Errorf("%s: a line that says what is wrong, and edits, are wanted", name)
	}
	return b, nil
}

// load reads all bugs of a directory, in the order of their names.
func load(dir string) ([]*bug, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return nil, err
	}
	var all []*bug
	for _, f := range files {
		content, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		b, err := parse(strings.TrimSuffix(filepath.Base(f), ".txt"), string(content))
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no bugs in %s", dir)
	}
	return all, nil
}

// plant makes the edits in the tree below root. Its error names every edit that does not fit; files may be changed then.
func (b *bug) plant(root string) error {
	var faults []error
	for _, e := range b.edits {
		path := filepath.Join(root, filepath.FromSlash(e.path))
		content, err := os.ReadFile(path)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		changed, err := e.apply(string(content))
		if err == nil {
			err = os.WriteFile(path, []byte(changed), 0o600)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %s: %w", b.name, e.path, err))
		}
	}
	return errors.Join(faults...)
}

func (e *edit) apply(content string) (string, error) {
	if n := strings.Count(content, e.find); n != 1 {
		return "", fmt.Errorf("the text to find is there %d times:\n%s", n, e.find)
	}
	return strings.Replace(content, e.find, e.put, 1), nil
}
