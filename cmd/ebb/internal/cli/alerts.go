package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ebb/alerts"
	"ebb/cmd/ebb/internal/config"
	"ebb/stream/conn"
	"ebb/stream/tail"
)

func (c *CLI) alerts() *cobra.Command {
	return group(
		"alerts", "See alerts, and say what is done about them",
		"  ebb alerts tail -c ebb.yaml\n  ebb alerts tail --from-start --until-end --output json\n  ebb alerts ack 3f2a91 --note 'will call tomorrow'",
		append([]*cobra.Command{c.alertsTail(), c.alertsShow(), c.alertsVerify(), c.alertsSchema()}, c.acts()...)...,
	)
}

func (c *CLI) alertsSchema() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the steps of alerts, for subscribers",
		Long: `schema prints what the header ce_dataschema of each step names: the JSON Schema of its
value. It allows what later versions may add.`,
		Example: "  ebb alerts schema > alert.v1.json\n  ebb alerts schema --operational > operational.v1.json",
		Args:    cobra.NoArgs,
	}
	operational := cmd.Flags().Bool("operational", false, "that of operational alerts, about ebb itself")
	cmd.RunE = work(func(*cobra.Command) error {
		name := alerts.AlertSchema
		if *operational {
			name = alerts.OperationalSchema
		}
		_, err := c.deps.Stdout.Write(alerts.SchemaFile(name))
		return err
	})
	return cmd
}

func (c *CLI) alertsTail() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Print the steps of alerts as they come",
		Long: `tail prints each step of an alert, from fired to resolved: when, how bad, the begin of
the alert's id, the step, detector, customer, money at risk, and why. It sees committed
steps only, each once. With --output json it prints the data object of each step, one a line.`,
		Example: `  ebb alerts tail
  ebb alerts tail --from-start --until-end --output json > alerts.ndjson
  ebb alerts tail --output json | jq 'select(.severity == "critical") | .customer_id'
  ebb alerts tail --operational --from-start --until-end`,
		Args: cobra.NoArgs,
	}
	path, asJSON := file(cmd), output(cmd)
	fromStart := cmd.Flags().Bool("from-start", false, "begin with the oldest step that the topic still has")
	untilEnd := cmd.Flags().Bool("until-end", false, "stop at the end, instead of waiting for more")
	operational := cmd.Flags().Bool("operational", false, "those about ebb itself, in the topic topics.operations")
	cmd.RunE = work(func(cmd *cobra.Command) error {
		o := tail.Options{From: tail.End, UntilEnd: *untilEnd}
		if *fromStart {
			o.From = tail.Start
		}
		topic := func(cfg *config.Config) string {
			if *operational {
				return cfg.Topics.Operations
			}
			return cfg.Topics.Alerts
		}
		return c.tail(cmd.Context(), *path, topic, o, func(r *tail.Record) error { return c.step(r, asJSON()) })
	})
	return cmd
}

// tail reads one of ebb's own topics. That the user stops it is not a failure.
func (c *CLI) tail(ctx context.Context, path string, topic func(*config.Config) string, o tail.Options, f func(*tail.Record) error) error {
	return c.withCluster(ctx, path, func(cfg *config.Config, cluster *conn.Cluster) error {
		o.Topic = topic(cfg)
		err := tail.Read(ctx, cluster, o, func(r tail.Record) error { return f(&r) })
		if ctx.Err() != nil {
			return nil //nolint:nilerr // being stopped by the user is how a tail ends
		}
		switch {
		case errors.Is(err, conn.ErrTopicMissing):
			return fmt.Errorf("topic %s does not exist; ebb topics create -c %s", o.Topic, path)
		case errors.Is(err, conn.ErrUnauthorized):
			return fmt.Errorf("topic %s may not be read; grant Read and Describe on it: ebb topics check -c %s says how", o.Topic, path)
		}
		return err
	})
}

// step prints one record of the alert topic.
func (c *CLI) step(r *tail.Record, asJSON bool) error {
	alert, err := alerts.Parse(r.Value)
	if err != nil {
		return c.leftOut(r, err)
	}
	var line bytes.Buffer
	if !asJSON {
		line.WriteString(stepLine(alert))
	} else if err := json.Compact(&line, r.Value); err != nil {
		return c.leftOut(r, err)
	}
	line.WriteByte('\n')
	_, err = c.deps.Stdout.Write(line.Bytes())
	return err
}

// leftOut says on standard error that a record of somebody else lies on the alert topic.
func (c *CLI) leftOut(r *tail.Record, why error) error {
	_, err := fmt.Fprintf(c.deps.Stderr, "ebb: %s partition %d offset %d was left out: %v\n", r.Topic, r.Partition, r.Offset, why)
	return err
}

// shortID is how much of an alert's id a line shows: enough to name it to the other commands.
const shortID = 10

// who is whom an alert is about: a customer, or a cohort of customers.
func who(a *alerts.Alert) string {
	if a.CustomerID == "" && a.Subject != nil {
		return a.Subject.ID
	}
	return a.CustomerID
}

// stepLine is a step in one line: when, how bad, which alert, what, who, how much, why.
func stepLine(a *alerts.Alert) string {
	step := a.Step
	if a.Reason != "" {
		step += " (" + a.Reason + ")"
	}
	if a.By != "" {
		step += " by " + a.By
	}
	parts := []string{a.Time.Format(time.RFC3339), fmt.Sprintf("%-8s", a.Severity), a.AlertID[:min(len(a.AlertID), shortID)], step, a.Detector, who(a)}
	if a.MoneyAtRisk != nil {
		parts = append(parts, a.MoneyAtRisk.Amount+" "+a.MoneyAtRisk.Currency)
	}
	if a.Summary != "" {
		parts = append(parts, a.Summary)
	}
	for i := range parts {
		parts[i] = cmp.Or(printable(parts[i]), "-")
	}
	return strings.Join(parts, "  ")
}
