package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with a configuration file.
type Fault struct {
	File   string `json:"file"`
	Line   int    `json:"line"`           // from 1; 0 when the fault concerns the file as a whole
	Column int    `json:"column"`         // from 1, in characters
	Path   string `json:"path,omitempty"` // dotted key, for example feeds.usage.topic
	What   string `json:"what"`           // what is wrong
	Mend   string `json:"mend"`           // what to do
}

// String is the fault as a line that editors and terminals turn into a link: file:line:column: key: what; mend.
func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", f.Line, f.Column)
	}
	b.WriteString(": ")
	if f.Path != "" {
		b.WriteString(f.Path + ": ")
	}
	b.WriteString(f.What)
	if f.Mend != "" {
		b.WriteString("; " + f.Mend)
	}
	return b.String()
}

// Faults is the error of Load: everything that is wrong with the file, in the order of the file.
type Faults []Fault //nolint:errname // a list of faults, which is an error only as a whole

// Error is one line a fault.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].String()
	}
	return strings.Join(lines, "\n")
}

// sorted orders faults by position; those of one position keep their order. Exact repeats are dropped.
func (f Faults) sorted() Faults {
	slices.SortStableFunc(f, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.Compact(f)
}
