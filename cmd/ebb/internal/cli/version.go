package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Version says which program this is.
type Version struct {
	Version string `json:"version"`          // of the module, or devel
	Commit  string `json:"commit,omitempty"` // of the sources, if known
	Time    string `json:"time,omitempty"`   // of that commit, RFC 3339
	Go      string `json:"go"`               // version of Go it was built with
}

// BuildVersion is what the build knows of itself.
func BuildVersion() Version {
	v := Version{Version: "devel", Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.time":
			v.Time = s.Value
		}
	}
	return v
}

func (v Version) String() string {
	s := "ebb " + v.Version
	if v.Commit != "" {
		s += " (" + v.Commit[:min(12, len(v.Commit))]
		if v.Time != "" {
			s += ", " + v.Time
		}
		s += ")"
	}
	return s + " " + v.Go
}

func (c *CLI) version() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  ebb version\n  ebb version --output json",
		Args:    cobra.NoArgs,
	}
	asJSON := output(cmd)
	cmd.RunE = work(func(*cobra.Command) error {
		if asJSON() {
			return writeJSON(c.deps.Stdout, c.deps.Version)
		}
		_, err := fmt.Fprintln(c.deps.Stdout, c.deps.Version)
		return err
	})
	return cmd
}
