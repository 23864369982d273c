package main

import (
	"errors"
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	ev := func(action, pkg, test, out string) string {
		return `{"Action":"` + action + `","Package":"` + pkg + `","Test":"` + test + `","Output":"` + out + `"}` + "\n"
	}
	tests := map[string]struct {
		rule    string
		in      string
		require string
		allow   string
		good    bool
		want    []string
		not     []string
	}{
		"passed": {
			rule: "a test that passed is counted and its output forgotten",
			in:   ev("output", "p", "TestA", `noise\n`) + ev("pass", "p", "TestA", "") + ev("pass", "p", "", ""),
			good: true, want: []string{"1 passed, 0 failed, 0 skipped"}, not: []string{"noise"},
		},
		"failed": {
			rule: "a test that failed shows its output and fails the report",
			in:   ev("output", "p", "TestA", `a_test.go:3: got 1\n`) + ev("fail", "p", "TestA", "") + ev("fail", "p", "", ""),
			want: []string{"FAIL  p TestA", "got 1", "0 passed, 1 failed, 0 skipped"},
		},
		"skipped": {
			rule: "a skip is listed with its reason and is no failure",
			in:   ev("output", "p", "TestA", `    a_test.go:3: no broker here\n`) + ev("output", "p", "TestA", `--- SKIP: TestA (0.00s)\n`) + ev("skip", "p", "TestA", "") + ev("pass", "p", "", ""),
			good: true, want: []string{"skipped: no broker here", "p TestA", "0 passed, 0 failed, 1 skipped"},
		},
		"required": {
			rule:    "a skip that is required to run is a failure",
			in:      ev("output", "p", "TestA", `    a_test.go:3: no broker here\n`) + ev("skip", "p", "TestA", "") + ev("pass", "p", "", ""),
			require: "broker", want: []string{"NOT RUN, but required: no broker here", "0 passed, 1 failed, 0 skipped"},
		},
		"allowed": {
			rule:    "of the required ones, those that are allowed may be skipped",
			in:      ev("output", "p", "TestA", `    a_test.go:3: no shared data\n`) + ev("skip", "p", "TestA", "") + ev("pass", "p", "", ""),
			require: ".", allow: "shared", good: true, want: []string{"skipped: no shared data", "0 passed, 0 failed, 1 skipped"},
		},
		"other pass": {
			rule: "what was skipped in one run and passed in another was run",
			in:   ev("pass", "p", "TestA", "") + ev("output", "p", "TestA", `short\n`) + ev("skip", "p", "TestA", "") + ev("pass", "p", "", ""),
			good: true, require: ".", want: []string{"1 passed, 0 failed, 0 skipped"},
		},
		"failed then passed": {
			rule: "a failure in one run is not mended by another run",
			in:   ev("fail", "p", "TestA", "") + ev("fail", "p", "", "") + ev("pass", "p", "TestA", "") + ev("pass", "p", "", ""),
			want: []string{"0 passed, 1 failed, 0 skipped"},
		},
		"does not compile": {
			rule: "a package that does not compile is a failure and shows the compiler's words",
			in: `{"ImportPath":"p [p.test]","Action":"build-output","Output":"p.go:1: undefined: x\n"}` + "\n" +
				`{"Action":"fail","Package":"p","FailedBuild":"p [p.test]"}` + "\n",
			want: []string{"FAIL  p (outside of a test)", "undefined: x", "0 passed, 1 failed, 0 skipped"},
		},
		"dies": {
			rule: "a package that dies outside of its tests is a failure",
			in:   ev("pass", "p", "TestA", "") + ev("output", "p", "", `exit status 2\n`) + ev("fail", "p", "", ""),
			want: []string{"exit status 2", "1 passed, 1 failed, 0 skipped"},
		},
		"not JSON": {
			rule: "the tool chain's own words are passed on",
			in:   "go: cannot find module\n" + ev("pass", "p", "TestA", ""),
			good: true, want: []string{"go: cannot find module"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			r := newReport(&out)
			if err := r.read(strings.NewReader(tt.in)); err != nil {
				t.Fatal(err)
			}
			d, err := newDemand(tt.require, tt.allow)
			if err != nil {
				t.Fatal(err)
			}
			if good := r.finish(d); good != tt.good {
				t.Errorf("%s: finish says %v", tt.rule, good)
			}
			for _, w := range tt.want {
				if !strings.Contains(out.String(), w) {
					t.Errorf("%s: %q is missing in\n%s", tt.rule, w, out.String())
				}
			}
			for _, w := range tt.not {
				if strings.Contains(out.String(), w) {
					t.Errorf("%s: %q is in\n%s", tt.rule, w, out.String())
				}
			}
		})
	}
}

func TestEmptyStreamIsNoSuccess(t *testing.T) {
	if err := newReport(&strings.Builder{}).read(strings.NewReader("")); !errors.Is(err, errNothing) {
		t.Errorf("got %v, want %v", err, errNothing)
	}
}

func TestDemandNamesTheBadExpression(t *testing.T) {
	if _, err := newDemand("a", "("); err == nil || !strings.Contains(err.Error(), "-allow") {
		t.Errorf("got %v, want an error that names -allow", err)
	}
}
