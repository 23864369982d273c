package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"ebb/cmd/ebb/internal/config"
	"ebb/stream/conn"
	"ebb/stream/tail"
)

func (c *CLI) alerts() *cobra.Command {
	return group(
		"alerts", "See alerts",
		"  ebb alerts tail -c ebb.yaml\n  ebb alerts tail --from-start --until-end --output json",
		c.alertsTail(),
	)
}

func (c *CLI) alertsTail() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Print the steps of alerts as they come",
		Long: `tail prints each step of an alert: fired, changed, resolved. It sees committed steps
only, each once. With --output json it prints the data object of each step, one a line.`,
		Example: `  ebb alerts tail
  ebb alerts tail --from-start --until-end --output json > alerts.ndjson
  ebb alerts tail --output json | jq 'select(.severity == "critical") | .customer_id'`,
		Args: cobra.NoArgs,
	}
	path, asJSON := file(cmd), output(cmd)
	fromStart := cmd.Flags().Bool("from-start", false, "begin with the oldest step that the topic still has")
	untilEnd := cmd.Flags().Bool("until-end", false, "stop at the end, instead of waiting for more")
	cmd.RunE = work(func(cmd *cobra.Command) error {
		o := tail.Options{From: tail.End, UntilEnd: *untilEnd}
		if *fromStart {
			o.From = tail.Start
		}
		topic := func(cfg *config.Config) string { return cfg.Topics.Alerts }
		return c.tail(cmd.Context(), *path, topic, o, func(r *tail.Record) error { return c.step(r, asJSON()) })
	})
	return cmd
}

// tail reads one of ebb's own topics. That the user stops it is not a failure.
func (c *CLI) tail(ctx context.Context, path string, topic func(*config.Config) string, o tail.Options, f func(*tail.Record) error) error {
	return c.withCluster(ctx, path, func(cfg *config.Config, cluster *conn.Cluster) error {
		o.Topic = topic(cfg)
		err := tail.Read(ctx, cluster, o, func(r tail.Record) error { return f(&r) })
		switch {
		case ctx.Err() != nil:
			return nil
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
	var line bytes.Buffer
	var s stepView
	if err := json.Unmarshal(r.Value, &s); err != nil || json.Compact(&line, r.Value) != nil {
		fmt.Fprintf(c.deps.Stderr, "ebb: %s partition %d offset %d is no alert and was left out\n", r.Topic, r.Partition, r.Offset)
		return nil
	}
	if !asJSON {
		line.Reset()
		line.WriteString(s.String())
	}
	line.WriteByte('\n')
	_, err := c.deps.Stdout.Write(line.Bytes())
	return err
}

// stepView is what of a step is shown to people.
type stepView struct {
	Step        string `json:"step"`
	Reason      string `json:"reason"`
	Detector    string `json:"detector"`
	CustomerID  string `json:"customer_id"`
	Severity    string `json:"severity"`
	Summary     string `json:"summary"`
	Time        string `json:"time"`
	MoneyAtRisk struct {
		Amount   string `json:"amount"`
		Currency string `json:"currency"`
	} `json:"money_at_risk"`
}

// String is one line: when, what, how bad, who, how much, why.
func (s stepView) String() string {
	step := s.Step
	if s.Reason != "" {
		step += " (" + s.Reason + ")"
	}
	parts := []string{s.Time, fmt.Sprintf("%-8s", s.Severity), step, s.Detector, s.CustomerID}
	if s.MoneyAtRisk.Amount != "" {
		parts = append(parts, s.MoneyAtRisk.Amount+" "+s.MoneyAtRisk.Currency)
	}
	if s.Summary != "" {
		parts = append(parts, s.Summary)
	}
	for i := range parts {
		parts[i] = cmp.Or(printable(parts[i]), "-")
	}
	return strings.Join(parts, "  ")
}
