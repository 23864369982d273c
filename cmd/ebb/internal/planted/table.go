package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// This file keeps the table of results in a document, so that bugs can be looked for in portions.

const (
	tableHead  = "| | bug | caught by | seed | CPU s |\n|---|---|---|---|---|"
	tableBegin = "<!-- planted: written by the program -->\n"
	tableEnd   = "<!-- planted: end -->\n"
)

// number is what the name of a bug begins with.
func (b *bug) number() string {
	n, _, _ := strings.Cut(b.name, "-")
	return n
}

// line is the line of the table about a bug.
func (r *result) line() string {
	by, seed := r.by, fmt.Sprint(r.seed)
	if !r.caught || r.test != "" {
		by, seed = "**missed**", fmt.Sprintf("none of %d", r.seeds)
	}
	if r.test != "" {
		by = "test " + r.test
	}
	if r.seeds == 0 {
		seed = "not run"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %.1f |", r.bug.number(), r.bug.what, by, seed, r.cpu.Seconds())
}

// addTo puts the line of a result into the table of a document, in place of an older one about the same bug.
func addTo(path string, r *result) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	changed, err := merge(string(content), r)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(changed), 0o600)
}

// merge is a document with the line of a result.
func merge(content string, r *result) (string, error) {
	before, rest, begun := strings.Cut(content, tableBegin)
	table, after, ended := strings.Cut(rest, tableEnd)
	if !begun || !ended {
		return "", fmt.Errorf("there is no place for the table, between %q and %q", tableBegin, tableEnd)
	}
	mine := fmt.Sprintf("| %s |", r.bug.number())
	lines := slices.DeleteFunc(strings.Split(table, "\n"), func(l string) bool {
		return !isRow(l) || strings.HasPrefix(l, mine)
	})
	lines = append(lines, r.line())
	slices.Sort(lines)
	caught, tests := 0, 0
	for _, l := range lines {
		if !strings.Contains(l, "| **missed** |") {
			caught++
		}
		if strings.Contains(l, "| test ") {
			tests++
		}
	}
	sum := fmt.Sprintf("%d of %d are caught, %d of them by tests of their packages.", caught, len(lines), tests)
	return before + tableBegin + "\n" + tableHead + "\n" + strings.Join(lines, "\n") + "\n\n" + sum + "\n\n" + tableEnd + after, nil
}

// isRow says whether a line is about a bug.
func isRow(l string) bool {
	return strings.HasPrefix(l, "| ") && len(l) > 2 && l[2] >= '0' && l[2] <= '9'
}
