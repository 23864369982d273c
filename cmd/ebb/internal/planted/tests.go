package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// This file is for bugs that the simulation does not show: the tests of the packages in which they lie are asked then.

// packages are the folders in which a bug changes something, relative to the root.
func (b *bug) packages() []string {
	var dirs []string
	for _, e := range b.edits {
		dirs = append(dirs, filepath.ToSlash(filepath.Dir(e.path)))
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// runTests asks the tests of the packages that a bug changes. A test counts that fails twice with the bug and passes without it.
func (h *hunter) runTests(ctx context.Context, dir string, r *result) error {
	for _, pkg := range r.bug.packages() {
		planted, sound := filepath.Join(dir, "package.test"), filepath.Join(dir, "package.sound")
		for program, root := range map[string]string{planted: dir, sound: h.root} {
			if _, err := command(ctx, root, "go", "test", "-trimpath", "-ldflags=-s -w", "-c", "-o", program, "./"+pkg); err != nil {
				return err
			}
		}
		if h.askTests(ctx, pkg, planted, sound, r) {
			return nil
		}
	}
	return nil
}

// mostSkipped is how many tests of a package may fail without the bug being the cause, before the package is given up.
const mostSkipped = 3

// askTests runs the tests of one package until one fails that shows the bug. Those that failed for other reasons are left out from then on.
func (h *hunter) askTests(ctx context.Context, pkg, planted, sound string, r *result) bool {
	dir, skip := filepath.Dir(planted), "^$"
	for range mostSkipped {
		failed, spent := h.test(ctx, planted, filepath.Join(dir, pkg), ".", skip)
		r.cpu += spent
		if failed == "" {
			return false
		}
		one := "^" + failed + "$"
		again, spent := h.test(ctx, planted, filepath.Join(dir, pkg), one, "^$")
		r.cpu += spent
		if without, _ := h.test(ctx, sound, filepath.Join(h.root, pkg), one, "^$"); again != "" && without == "" {
			r.caught, r.test = true, fmt.Sprintf("%s of %s", failed, pkg)
			return true
		}
		r.doubt++
		skip += "|" + one
	}
	return false
}

var failure = regexp.MustCompile(`(?m)^--- FAIL: (\w+)|^panic: |^fatal error: `)

// test runs the short tests of a package that match and are not to be left out, and returns the first that fails, or ends the program.
func (h *hunter) test(ctx context.Context, program, dir, match, skip string) (failed string, spent time.Duration) {
	cmd := exec.CommandContext(ctx, "nice", "-n", strconv.Itoa(h.nice), program, "-test.run", match, "-test.skip", skip, "-test.short", "-test.v", "-test.failfast", "-test.timeout", patience.String())
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState != nil {
		spent = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	if err == nil || ctx.Err() != nil {
		return "", spent
	}
	return firstFailed(out), spent
}

var runs = regexp.MustCompile(`(?m)^=== (?:RUN|CONT) +(\w+)`)

// firstFailed is the test that failed, or that ran when the program ended.
func firstFailed(out []byte) string {
	m := failure.FindSubmatchIndex(out)
	if m == nil {
		return ""
	}
	if m[2] >= 0 {
		return string(out[m[2]:m[3]])
	}
	ran := runs.FindAllSubmatch(out[:m[0]], -1)
	if len(ran) == 0 {
		return ""
	}
	return string(ran[len(ran)-1][1])
}
