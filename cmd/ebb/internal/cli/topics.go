package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"ebb/cmd/ebb/internal/config"
	"ebb/stream/admin"
	"ebb/stream/conn"
)

func (c *CLI) topics() *cobra.Command {
	return group(
		"topics", "Check or create the topics that ebb needs",
		"  ebb topics check -c ebb.yaml\n  ebb topics create -c ebb.yaml",
		c.topicsCheck(), c.topicsCreate(),
	)
}

// topicsResult is what both commands answer to programs.
type topicsResult struct {
	OK       bool            `json:"ok"`
	Created  []string        `json:"created,omitempty"`
	Problems []admin.Problem `json:"problems"`
}

func (c *CLI) topicsCheck() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Find out whether the topics and rights are fit for ebb",
		Long: `check asks the cluster about every configured topic: whether it exists, partition
counts, settings, replicas, and whether the login has the rights that ebb needs. It
changes nothing. The exit code is 1 if something would keep ebb from running.`,
		Example: "  ebb topics check\n  ebb topics check -c /etc/ebb/ebb.yaml --output json",
		Args:    cobra.NoArgs,
	}
	path, asJSON := file(cmd), output(cmd)
	cmd.RunE = work(func(cmd *cobra.Command) error {
		return c.withCluster(cmd.Context(), *path, func(cfg *config.Config, cluster *conn.Cluster) error {
			spec := cfg.TopicSpec()
			spec.CreatedByRun = cfg.Topics.Create
			problems, err := admin.Check(cmd.Context(), cluster, spec)
			if err != nil {
				return err
			}
			return c.topicsReport(topicsResult{Problems: problems}, asJSON(), cfg)
		})
	})
	return cmd
}

func (c *CLI) topicsCreate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create the topics that ebb writes, with fitting settings",
		Long: `create makes the topics that ebb writes and that do not exist yet, and the topic of
feeds.control, then checks everything as ebb topics check does. Topics that exist are
left as they are; the other feeds are never created. New topics get as many partitions
as the feeds have, so at least one feed has to exist.`,
		Example: "  ebb topics create\n  ebb topics create -c /etc/ebb/ebb.yaml --output json",
		Args:    cobra.NoArgs,
	}
	path, asJSON := file(cmd), output(cmd)
	cmd.RunE = work(func(cmd *cobra.Command) error {
		return c.withCluster(cmd.Context(), *path, func(cfg *config.Config, cluster *conn.Cluster) error {
			created, problems, err := admin.Create(cmd.Context(), cluster, cfg.TopicSpec())
			if err != nil {
				return err
			}
			return c.topicsReport(topicsResult{Created: created, Problems: problems}, asJSON(), cfg)
		})
	})
	return cmd
}

func (c *CLI) topicsReport(r topicsResult, asJSON bool, cfg *config.Config) error {
	r.OK = !admin.Failed(r.Problems)
	if asJSON {
		r.Problems = append([]admin.Problem{}, r.Problems...)
		if err := writeJSON(c.deps.Stdout, r); err != nil {
			return err
		}
	} else if _, err := fmt.Fprint(c.deps.Stdout, topicsText(r, cfg)); err != nil {
		return err
	}
	if !r.OK {
		return errReported
	}
	return nil
}

func topicsText(r topicsResult, cfg *config.Config) string {
	var b strings.Builder
	for _, t := range r.Created {
		fmt.Fprintf(&b, "created: topic %s\n", t)
	}
	for _, p := range r.Problems {
		fmt.Fprintln(&b, p)
	}
	if r.OK {
		fmt.Fprintf(&b, "ok: the topics of group %s are fit for ebb\n", cfg.Group)
	}
	return b.String()
}

// withCluster loads the configuration and makes sure that the cluster can be used before f asks it something: the probe says
// what is wrong with an address or a login far better than any later request.
func (c *CLI) withCluster(ctx context.Context, path string, f func(*config.Config, *conn.Cluster) error) error {
	cfg, err := config.Load(path, c.deps.Config)
	if err != nil {
		return err
	}
	settings := cfg.Connection()
	settings.Dial = c.deps.Dial
	cluster, err := conn.New(settings)
	if err != nil {
		return err
	}
	defer cluster.Close()
	if err := cluster.Check(ctx); err != nil {
		return err
	}
	return f(cfg, cluster)
}
