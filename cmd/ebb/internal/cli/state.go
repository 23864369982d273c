package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
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
		c.stateShow(), c.stateGrow(),
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
		Long: `show reads the changelog topic as it is now: how many customers each partition holds, up
to which time their events are applied, how many records are still to be read, and
whether one of the state commands has begun and not ended. It changes nothing and may
be used while ebb runs.`,
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
	for _, p := range o.Partitions {
		if !p.Begun {
			fmt.Fprintf(w, "partition %d: nothing yet\n", p.Partition)
			continue
		}
		fmt.Fprintf(w, "partition %d: %d customers, %d open alerts, applied up to %s, %d records to read", p.Partition, p.Customers, p.OpenAlerts, p.Clock.Format(time.RFC3339), p.Unread)
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
