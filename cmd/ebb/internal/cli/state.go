package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ebb/cmd/ebb/internal/config"
	"ebb/stream"
	"ebb/stream/conn"
)

func (c *CLI) state() *cobra.Command {
	return group(
		"state", "See and change what ebb remembers of the customers, while it is stopped",
		"  ebb state show -c ebb.yaml\n  ebb state grow -c ebb.yaml          # what it would do\n  ebb state grow -c ebb.yaml --yes",
		c.stateShow(), c.stateGrow(), c.stateRewind(), c.stateExport(), c.stateImport(),
	)
}

// withUpkeep gives f the upkeep of the configured group.
func (c *CLI) withUpkeep(ctx context.Context, path string, f func(u *stream.Upkeep) error) error {
	return c.withCluster(ctx, path, func(cfg *config.Config, cluster *conn.Cluster) error {
		u, err := c.deps.Upkeep(ctx, cfg, cluster, c.logger(cfg.Log))
		if err != nil {
			return err
		}
		defer u.Close()
		return f(u)
	})
}

// consent adds --yes and --dry-run, and answers whether the command may write.
func consent(cmd *cobra.Command) *bool {
	yes := cmd.Flags().Bool("yes", false, "do it; without this flag the command only says what it would do")
	cmd.Flags().Bool("dry-run", false, "say what would be done and change nothing; so it is without --yes, too")
	cmd.MarkFlagsMutuallyExclusive("yes", "dry-run")
	return yes
}

// result writes v for programs or text for people.
func (c *CLI) result(asJSON bool, v any, text func(w io.Writer)) error {
	if asJSON {
		return writeJSON(c.deps.Stdout, v)
	}
	var b strings.Builder
	text(&b)
	_, err := io.WriteString(c.deps.Stdout, b.String())
	return err
}

const unchanged = "nothing was changed; run it again with --yes to do it\n"

func (c *CLI) stateShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show what the changelog holds, by partition",
		Long: `show reads the changelog topic as it is now: how many customers each partition holds,
in which stage of their life all of them are, up to which time their events are
applied, how many records are still to be read, and whether one of the state commands
has begun and not ended. It changes nothing and may be used while ebb runs.`,
		Example: "  ebb state show\n  ebb state show -c /etc/ebb/ebb.yaml --output json",
		Args:    cobra.NoArgs,
	}
	path, asJSON := file(cmd), output(cmd)
	cmd.RunE = work(func(cmd *cobra.Command) error {
		return c.withUpkeep(cmd.Context(), *path, func(u *stream.Upkeep) error {
			o, err := u.Show(cmd.Context())
			if err != nil {
				return err
			}
			return c.result(asJSON(), o, func(w io.Writer) { overview(w, o) })
		})
	})
	return cmd
}

func overview(w io.Writer, o *stream.StateOverview) {
	fmt.Fprintf(w, "group %s on cluster %s: %d customers, %d open alerts; the feeds have %d partitions, the changelog %d; members: %d\n",
		o.Group, o.Cluster, o.Customers, o.OpenAlerts, o.FeedPartitions, o.ChangelogPartitions, len(o.Members))
	if o.Stages != nil {
		counts := make([]string, 0, len(o.Stages))
		for _, name := range stream.StageNames() {
			counts = append(counts, fmt.Sprintf("%d %s", o.Stages[name], strings.ReplaceAll(name, "_", " ")))
		}
		fmt.Fprintf(w, "by stage: %s\n", strings.Join(counts, ", "))
	}
	for _, p := range o.Partitions {
		if !p.Begun {
			fmt.Fprintf(w, "partition %d: nothing yet\n", p.Partition)
			continue
		}
		fmt.Fprintf(w, "partition %d: %d customers, %d open alerts, clock at %s, %d records to read", p.Partition, p.Customers, p.OpenAlerts, p.Clock.Format(time.RFC3339), p.Unread)
		if p.Quiet {
			fmt.Fprint(w, ", still in the quiet history")
		}
		fmt.Fprintln(w)
	}
	if o.Refusal != "" {
		fmt.Fprintf(w, "no task starts: %s\n", o.Refusal)
	}
}

func (c *CLI) stateGrow() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "grow",
		Short: "Spread the state over the partitions that were added to the feeds",
		Long: `grow is for when partitions were added to the feeds: a customer's records then come
from another partition than before, and what is known of him has to be there. It adds
partitions to the changelog and moves every customer whose partition changes. Alerts
keep their ids; nothing is published.

Before: let the producers pause, let ebb read the feeds to their ends, stop all
instances, and add the partitions with kafka-topics.sh --alter, to all feeds the same
number. After: start ebb and the producers. grow refuses while instances run, and
while records lie unread whose customers move. Killed on the way, it is run again and
goes on where it stopped; until it has ended no task starts.`,
		Example: "  ebb state grow                # what would be done\n  ebb state grow --yes\n  ebb state grow -c /etc/ebb/ebb.yaml --yes --output json",
		Args:    cobra.NoArgs,
	}
	path, asJSON, yes := file(cmd), output(cmd), consent(cmd)
	cmd.RunE = work(func(cmd *cobra.Command) error {
		return c.withUpkeep(cmd.Context(), *path, func(u *stream.Upkeep) error {
			do := u.PlanGrowth
			if *yes {
				do = u.Grow
			}
			g, err := do(cmd.Context())
			if g == nil {
				return err
			}
			return errors.Join(err, c.result(asJSON(), g, func(w io.Writer) { growth(w, g, *yes && err == nil) }))
		})
	})
	return cmd
}

func growth(w io.Writer, g *stream.Growth, done bool) {
	switch {
	case !g.Needed():
		fmt.Fprintf(w, "the state is spread over %d partitions, as many as the feeds have; there is nothing to do\n", g.To)
		return
	case done:
		fmt.Fprintf(w, "done: %d partitions instead of %d; %d of %d customers moved\n", g.To, g.From, g.Moving, g.Customers)
		return
	}
	fmt.Fprintf(w, "from %d to %d partitions: %d of %d customers move\n", g.From, g.To, g.Moving, g.Customers)
	if g.Resumed {
		fmt.Fprintln(w, "an earlier run has begun with it and not ended")
	}
	if g.Unread > 0 {
		fmt.Fprintf(w, "%d records are not read yet, %d of them of customers who move\n", g.Unread, g.Misplaced)
	}
	fmt.Fprint(w, unchanged)
}

// moment is a flag that takes a time: RFC 3339, or a date, which is its beginning in UTC.
type moment struct{ time.Time }

func (m *moment) Type() string { return "time" }

func (m *moment) String() string {
	if m.IsZero() {
		return ""
	}
	return m.Format(time.RFC3339)
}

// Set takes the time.
func (m *moment) Set(s string) error {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			m.Time = t
			return nil
		}
	}
	return errors.New("use a time such as 2026-01-05T10:00:00Z, or a date")
}

func (c *CLI) stateRewind() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rewind",
		Short: "Compute the state anew from a time on, without paging anybody",
		Long: `rewind lets ebb forget its customers and read the feeds again from a time on: the records
whose timestamps are not before it. It is for when a mapping was wrong or a rule needs
longer windows. The customers feed is read from its beginning.

Alerts that are open are remembered. Once everything is read again, those that still fire
go on under their ids, and nothing is published about them; those that do not are
resolved; new ones are published once, if they are news, as at a first start.

Go back by at least state.kept_days, as far as the topics still reach: an alert whose
reason lies before the time cannot fire again, and is resolved as expired. Stop all
instances before, start them after. Killed on the way, it is run again.`,
		Example: "  ebb state rewind --to 2026-01-05                  # what would be done\n  ebb state rewind --to 2026-01-05T10:00:00Z --yes",
		Args:    cobra.NoArgs,
	}
	path, asJSON, yes := file(cmd), output(cmd), consent(cmd)
	var to moment
	cmd.Flags().Var(&to, "to", "time from which the feeds are read again (required)")
	_ = cmd.MarkFlagRequired("to") // the flag is there
	cmd.RunE = work(func(cmd *cobra.Command) error {
		return c.withUpkeep(cmd.Context(), *path, func(u *stream.Upkeep) error {
			do := u.PlanRewind
			if *yes {
				do = u.Rewind
			}
			r, err := do(cmd.Context(), to.Time)
			if err != nil {
				return err
			}
			return c.result(asJSON(), r, func(w io.Writer) { rewinding(w, r) })
		})
	})
	return cmd
}

func rewinding(w io.Writer, r *stream.Rewinding) {
	at := r.To.Format(time.RFC3339)
	if r.Changed {
		fmt.Fprintf(w, "done: the next start reads the feeds from %s on, %d records\n", at, r.Records)
	} else {
		fmt.Fprintf(w, "back to %s: %d customers are forgotten and %d records read again\n", at, r.Customers, r.Records)
	}
	fmt.Fprintf(w, "%d open alerts are remembered\n", r.Open)
	if r.Older > 0 {
		fmt.Fprintf(w, "%d of them fired before that time: what they are about may not be read again, and then they are resolved as expired\n", r.Older)
	}
	if !r.Changed {
		fmt.Fprint(w, unchanged)
	}
}

func (c *CLI) stateExport() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export FILE",
		Short: "Write the state to a file, to move to another cluster",
		Long: `export writes what is known of all customers to a file that ends in a checksum. FILE must
not exist. It holds customers' data: keep it accordingly.

The state that was exported is then marked as moved: no task starts on it any more, so
that nobody computes in two places. Stop all instances before. To call the move off,
import the file again where it came from, with --positions same.`,
		Example: "  ebb state export customers.ebbstate --yes\n  ebb state export -c /etc/ebb/ebb.yaml customers.ebbstate --yes --output json",
		Args:    cobra.ExactArgs(1),
	}
	path, asJSON, yes := file(cmd), output(cmd), consent(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return work(func(cmd *cobra.Command) error {
			return c.withUpkeep(cmd.Context(), *path, func(u *stream.Upkeep) error {
				if !*yes {
					o, err := u.Show(cmd.Context())
					if err != nil {
						return err
					}
					return c.result(asJSON(), o, func(w io.Writer) { overview(w, o); fmt.Fprint(w, unchanged) })
				}
				x, err := export(cmd.Context(), u, args[0])
				if err != nil {
					return err
				}
				return c.result(asJSON(), x, func(w io.Writer) {
					fmt.Fprintf(w, "done: %d customers of %d partitions are in %s; here no task starts any more\n", x.Customers, x.Tasks, args[0])
				})
			})
		})(cmd, args)
	}
	return cmd
}

// export writes the file whole or not at all.
func export(ctx context.Context, u *stream.Upkeep, name string) (x *stream.Exported, err error) {
	if _, err := os.Lstat(name); err == nil {
		return nil, fmt.Errorf("%s exists already; choose another name", name)
	}
	f, err := os.OpenFile(name+".part", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	kept := false
	x, err = u.Export(ctx, f, func() error {
		err := errors.Join(f.Sync(), f.Close())
		if err == nil {
			err = os.Rename(name+".part", name)
		}
		if err == nil {
			kept = true
			err = syncDir(filepath.Dir(name))
		}
		return err
	})
	if err != nil && !kept {
		_ = f.Close() // it may be closed already
		return nil, errors.Join(err, os.Remove(name+".part"))
	}
	return x, err
}

// syncDir makes a new name durable.
func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// positions is a flag that says where the feeds are read on.
type positions struct{ stream.Positions }

func (p *positions) Type() string { return "where" }

func (p *positions) String() string {
	if p.From == stream.FromTime {
		return "time=" + p.Time.Format(time.RFC3339)
	}
	return string(p.From)
}

// Set takes the place.
func (p *positions) Set(s string) error {
	at, isTime := strings.CutPrefix(s, "time=")
	switch {
	case isTime:
		var m moment
		err := m.Set(at)
		p.From, p.Time = stream.FromTime, m.Time
		return err
	case s == "end", s == "start", s == "same":
		p.From = stream.From(s)
		return nil
	}
	return errors.New("use end, start, same or time=2026-01-05T10:00:00Z")
}

func (c *CLI) stateImport() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Take in a state that was exported, on another cluster",
		Long: `import writes an exported state into the changelog of the configured group, which has to
be empty, and the table of open alerts. The group must have the name that it had; the
number of partitions may differ. Run ebb topics create before.

--positions says where the feeds are read on, because mirrored topics have other offsets:
end (what comes from now on), start (all they hold), time=TIME (records whose timestamps
are not before it) or same (the offsets of the export). Records that were counted already
and come again are known by their event ids, as far back as state.remembered_for: choose a
time shortly before ebb was stopped.`,
		Example: "  ebb state import customers.ebbstate --positions time=2026-01-05T10:00:00Z        # what would be done\n" +
			"  ebb state import customers.ebbstate --positions time=2026-01-05T10:00:00Z --yes",
		Args: cobra.ExactArgs(1),
	}
	path, asJSON, yes := file(cmd), output(cmd), consent(cmd)
	var at positions
	cmd.Flags().Var(&at, "positions", "where the feeds are read on (required)")
	_ = cmd.MarkFlagRequired("positions") // the flag is there
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return work(func(cmd *cobra.Command) error {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			return c.withUpkeep(cmd.Context(), *path, func(u *stream.Upkeep) error {
				do := u.PlanImport
				if *yes {
					do = u.Import
				}
				m, err := do(cmd.Context(), f, at.Positions)
				if err != nil {
					return err
				}
				return c.result(asJSON(), m, func(w io.Writer) { importing(w, m) })
			})
		})(cmd, args)
	}
	return cmd
}

func importing(w io.Writer, m *stream.Imported) {
	fmt.Fprintf(w, "export %s of group %s, %s: %d customers, %d open alerts\n", m.ID, m.Group, m.Exported.Exported.Format(time.RFC3339), m.Customers, m.Open)
	switch {
	case m.Already:
		fmt.Fprintln(w, "it was imported before; there is nothing to do")
	case m.Changed:
		fmt.Fprintf(w, "done: the next start goes on with it, and reads %d records first\n", m.Records)
	default:
		fmt.Fprintf(w, "%d records of the feeds would be read first\n", m.Records)
		fmt.Fprint(w, unchanged)
	}
}
