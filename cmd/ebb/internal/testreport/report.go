package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// event is one line of `go test -json` (see `go doc test2json`).
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Elapsed     float64
	Output      string
	FailedBuild string
}

// verdict of a test over all runs; the worse of failed and anything wins, and passed wins over skipped.
type verdict uint8

const (
	skipped verdict = iota + 1
	passed
	failed
)

type testID struct{ pkg, name string }

type result struct {
	verdict verdict
	reason  string // of the skip
}

// report collects what the runs said. Its output buffers hold only what belongs to tests and packages that are not
// decided yet, or failed.
type report struct {
	w       io.Writer
	results map[testID]*result
	output  map[testID][]byte // name "" is the package's own
	order   []testID          // of the failures, as they came
	broken  []string          // packages that failed outside of a test
	builds  map[string][]byte // compiler output by import path
}

func newReport(w io.Writer) *report {
	return &report{w: w, results: map[testID]*result{}, output: map[testID][]byte{}, builds: map[string][]byte{}}
}

var errNothing = errors.New("no test was run: the stream holds no result")

// read takes the stream to its end and prints a line for each package when it is done. Lines that are no JSON are
// passed on as they are: they are the tool chain's own words.
func (r *report) read(in io.Reader) error {
	s := bufio.NewScanner(in)
	s.Buffer(make([]byte, 64<<10), 16<<20)
	for s.Scan() {
		var e event
		if line := s.Bytes(); !bytes.HasPrefix(line, []byte("{")) || json.Unmarshal(line, &e) != nil {
			fmt.Fprintf(r.w, "%s\n", line)
			continue
		}
		r.take(&e)
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("reading the test events: %w", err)
	}
	if len(r.results) == 0 && len(r.broken) == 0 {
		return errNothing
	}
	return nil
}

func (r *report) take(e *event) {
	id := testID{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		r.builds[e.ImportPath] = append(r.builds[e.ImportPath], e.Output...)
	case "output":
		r.output[id] = append(r.output[id], e.Output...)
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.endPackage(e)
			return
		}
		r.endTest(id, e.Action)
	}
}

func (r *report) endTest(id testID, action string) {
	res := r.results[id]
	if res == nil {
		res = &result{}
		r.results[id] = res
	}
	switch action {
	case "fail":
		if res.verdict != failed {
			r.order = append(r.order, id)
		}
		res.verdict = failed
		return // its output is kept
	case "pass":
		res.verdict = max(res.verdict, passed)
	case "skip":
		res.verdict = max(res.verdict, skipped)
		res.reason = skipReason(r.output[id])
	}
	if res.verdict != failed {
		delete(r.output, id)
	}
}

func (r *report) endPackage(e *event) {
	id := testID{e.Package, ""}
	switch e.Action {
	case "pass":
		fmt.Fprintf(r.w, "ok    %-44s %6.1fs\n", e.Package, e.Elapsed)
	case "skip":
		fmt.Fprintf(r.w, "-     %-44s no tests\n", e.Package)
	case "fail":
		fmt.Fprintf(r.w, "FAIL  %-44s %6.1fs\n", e.Package, e.Elapsed)
		if e.FailedBuild != "" {
			r.output[id] = append(r.output[id], r.builds[e.FailedBuild]...)
		}
		if !r.failedIn(e.Package) {
			r.broken = append(r.broken, e.Package)
			return
		}
	}
	delete(r.output, id)
}

func (r *report) failedIn(pkg string) bool {
	return slices.ContainsFunc(r.order, func(id testID) bool { return id.pkg == pkg })
}

// skipReason is what the test said when it was skipped: its last line of output, without the file position.
func skipReason(out []byte) string {
	reason := "no reason given"
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "===") || strings.HasPrefix(line, "---") {
			continue
		}
		reason = line
	}
	if m := position.FindStringIndex(reason); m != nil {
		reason = reason[m[1]:]
	}
	return reason
}

var position = regexp.MustCompile(`^[\w./-]+\.go:\d+: `)

// demand says which skips are failures, by their reasons. The zero value demands nothing.
type demand struct{ require, allow *regexp.Regexp }

func newDemand(require, allow string) (d demand, err error) {
	for _, x := range []struct {
		name, expr string
		to         **regexp.Regexp
	}{{"-require", require, &d.require}, {"-allow", allow, &d.allow}} {
		if x.expr == "" {
			continue
		}
		if *x.to, err = regexp.Compile(x.expr); err != nil {
			return demand{}, fmt.Errorf("%s: %w", x.name, err)
		}
	}
	return d, nil
}

func (d demand) forbids(reason string) bool {
	return d.require != nil && d.require.MatchString(reason) && (d.allow == nil || !d.allow.MatchString(reason))
}

// finish prints failures, skips and totals, and says whether all is well.
func (r *report) finish(d demand) bool {
	for _, pkg := range r.broken {
		fmt.Fprintf(r.w, "\nFAIL  %s (outside of a test)\n%s", pkg, r.output[testID{pkg, ""}])
	}
	for _, id := range r.order {
		fmt.Fprintf(r.w, "\nFAIL  %s %s\n%s", id.pkg, id.name, r.output[id])
	}
	n := map[verdict]int{}
	for _, res := range r.results {
		n[res.verdict]++
	}
	missing := r.printSkips(d)
	fmt.Fprintf(r.w, "\n%d passed, %d failed, %d skipped\n", n[passed], n[failed]+len(r.broken)+missing, n[skipped]-missing)
	return n[failed]+len(r.broken)+missing == 0
}

// printSkips lists what was run in no pass, gathered by reason, and returns how many of them were required.
func (r *report) printSkips(d demand) (missing int) {
	byReason := map[string][]string{}
	for id, res := range r.results {
		if res.verdict == skipped {
			byReason[res.reason] = append(byReason[res.reason], id.pkg+" "+id.name)
		}
	}
	reasons := make([]string, 0, len(byReason))
	for reason := range byReason {
		reasons = append(reasons, reason)
	}
	slices.Sort(reasons)
	for _, reason := range reasons {
		word := "skipped"
		if d.forbids(reason) {
			word = "NOT RUN, but required"
			missing += len(byReason[reason])
		}
		fmt.Fprintf(r.w, "\n%s: %s\n", word, reason)
		slices.Sort(byReason[reason])
		for _, name := range byReason[reason] {
			fmt.Fprintf(r.w, "  %s\n", name)
		}
	}
	return missing
}
