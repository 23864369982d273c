package arrows

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// tracked lists the files of the repository as git knows them. Where there is no git (a source archive), there is nothing
// to check: what is not tracked cannot be released.
func tracked(t *testing.T) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", "ls-files", "-z")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("no git repository: %v", err)
	}
	var names []string
	for name := range strings.SplitSeq(string(out), "\x00") {
		if name != "" {
			names = append(names, name)
		}
	}
	return names
}

func TestTopLevel(t *testing.T) {
	known := []string{
		".ci", ".github", ".gitattributes", ".gitignore", ".golangci.yml", "CHANGELOG.md", "Makefile", "README.md",
		"alerts", "cmd", "deploy", "detectors", "docs", "go.mod", "go.sum", "state", "stream",
	}
	for _, name := range tracked(t) {
		if top, _, _ := strings.Cut(name, "/"); !slices.Contains(known, top) {
			t.Errorf("%s: a new top-level entry; a reader has to learn each of them, so find it a place below one that is there", name)
		}
	}
}

// TestFilesStandAlone: a clone works on every machine, so tracked files name no path of one machine, no package
// registry, and nothing beside the repository but where a test or the bench looks for it and can do without.
func TestFilesStandAlone(t *testing.T) {
	machine := regexp.MustCompile(`(^|[^a-z0-9.])/(work|farm|root|home)/`)
	registry := regexp.MustCompile(`proxy\.golang\.org|sum\.golang\.org|goproxy\.|registry\.npmjs|pypi\.org|repo1?\.maven|index\.docker\.io`)
	beside := regexp.MustCompile(`\.\./shared`)
	for _, name := range tracked(t) {
		body, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted, not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		if bytes.IndexByte(body[:min(len(body), 8000)], 0) >= 0 || name == "cmd/ebb/internal/arrows/files_test.go" {
			continue
		}
		report := func(re *regexp.Regexp, what string) {
			if loc := re.FindIndex(body); loc != nil {
				t.Errorf("%s:%d: %s: %q", name, 1+bytes.Count(body[:loc[0]], []byte("\n")), what, body[loc[0]:loc[1]])
			}
		}
		report(machine, "a path of one machine")
		report(registry, "a package registry's host")
		if !mayLookBeside(name) {
			report(beside, "a file outside of the repository")
		}
	}
}

func mayLookBeside(name string) bool {
	return strings.HasSuffix(name, "_test.go") || name == ".ci/run" || name == "Makefile" || name == "docs/bench.md" ||
		strings.HasPrefix(name, "cmd/ebb/internal/bench/") || strings.HasPrefix(name, "stream/kafkatest/")
}

func TestNoLargeFiles(t *testing.T) {
	const most = 1 << 20
	for _, name := range tracked(t) {
		if st, err := os.Stat(filepath.Join(root, filepath.FromSlash(name))); err == nil && st.Size() > most {
			t.Errorf("%s has %d bytes; the most is %d", name, st.Size(), most)
		}
	}
}
