package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// Backtest replays a history. Its result goes to out.Stdout, progress to out.Stderr.
type Backtest func(ctx context.Context, o BacktestOptions, out Streams) error

// BacktestOptions are the flags of ebb backtest.
type BacktestOptions struct {
	Events      []string                                                          // files; "-" is Stdin
	Stdin       io.Reader                                                         // what "-" reads
	Kafka       bool                                                              // read the topics of the configuration's feeds instead of files
	Brokers     []string                                                          // in place of the configuration's; not empty with Kafka only
	Dial        func(ctx context.Context, network, addr string) (net.Conn, error) // nil: the network
	From, Until time.Time                                                         // event times of the first event that is used and the first that is not; zero: no bound
	Config      string                                                            // configuration file; empty: ebb's defaults and a mapping that most tables fit
	PrintConfig bool                                                              // write that configuration, and stop
	Horizon     int                                                               // days; 0: alerts.horizon of the configuration
	ScoreAt     []time.Time                                                       // midnights (UTC) at which the days begin whose end every customer is scored at
	Scores      string                                                            // file of these scores
	Alerts      string                                                            // CSV file of every alert, and every departure that was missed; empty: none
	Report      string                                                            // HTML file; empty: none
	JSON        bool                                                              // write the report as one JSON object
	StopAtBad   bool                                                              // the first row that cannot be used ends the run
	MaxBad      float64                                                           // percent of such rows above which the history is refused
	MaxMemory   int64                                                             // bytes of history held in memory
}

func (c *CLI) backtest() *cobra.Command {
	var o BacktestOptions
	cmd := &cobra.Command{
		Use:   "backtest",
		Short: "Show what ebb would have alerted on a history of your own",
		Long: `backtest reads a history, takes it through the same code as live records with the
history's own clock, and reports what ebb would have alerted, what came of it, and
what was missed. The history is CSV (customer_id,time,topic,type,amount,extra), JSON
lines with a member "topic", or either of them compressed by gzip; - is standard
input, which then has to be one of them. Rows may be in any order. --kafka reads the
topics of a configuration's feeds instead.

Without -c, ebb's defaults apply, and a mapping that most tables fit
(--print-config shows it). docs/backtest.md has every definition.`,
		Example: `  ebb backtest --events history.csv.gz --report report.html
  ebb backtest -c ebb.yaml --events payments.csv --events usage.ndjson --output json
  ebb backtest -c ebb.yaml --kafka --from 2026-01-01 --report report.html
  zcat history.csv.gz | ebb backtest --events - --horizon 90
  ebb backtest --events history.csv.gz --alerts alerts.csv     # customer by customer
  ebb backtest --events history.csv --score-at 2026-01-01,2026-02-01 --horizon 90 --scores scores.csv`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.Events, "events", "e", nil, "file to read; several times for several files, - for standard input")
	f.BoolVar(&o.Kafka, "kafka", false, "read the topics of the configuration's feeds, from their starts to their ends")
	f.StringSliceVar(&o.Brokers, "brokers", nil, "read the topics from these brokers (host:port), instead of the configuration's")
	var from, until moment
	f.Var(&from, "from", "leave events before this time out (2006-01-02, or RFC 3339)")
	f.Var(&until, "until", "leave events from this time on out")
	f.StringVarP(&o.Config, "config", "c", "", "configuration file (default: ebb's defaults, and a mapping that most tables fit)")
	f.BoolVar(&o.PrintConfig, "print-config", false, "write the configuration that holds without -c, and stop")
	f.IntVar(&o.Horizon, "horizon", 0, "days without activity that make a departure (default: alerts.horizon of the configuration)")
	var dates []string
	f.StringSliceVar(&dates, "score-at", nil, "days (2006-01-02, UTC) at whose end every customer known then is scored")
	f.StringVar(&o.Scores, "scores", "", "CSV file for these scores")
	f.StringVar(&o.Alerts, "alerts", "", "CSV file for every alert and what came of it, and for who left unnoticed")
	f.StringVar(&o.Report, "report", "", "write the report as one HTML file")
	badRows := &choice{value: "skip", allowed: []string{"stop", "skip"}}
	f.Var(badRows, "bad-rows", "what becomes of a row that cannot be used: stop at the first, or skip and count it")
	f.Float64Var(&o.MaxBad, "max-bad-rows", 5, "percent of rows that may be skipped; more end the run")
	memory := &size{value: 4_000_000_000}
	f.Var(memory, "max-memory", "memory that the history may take; a larger one is refused")
	asJSON := output(cmd)
	cmd.PreRunE = func(*cobra.Command, []string) error {
		o.Kafka = o.Kafka || len(o.Brokers) > 0
		o.From, o.Until = from.Time, until.Time
		o.JSON, o.StopAtBad, o.Stdin, o.Dial, o.MaxMemory = asJSON(), badRows.value == "stop", c.deps.Stdin, c.deps.Dial, memory.value
		if err := o.check(f.Changed("horizon")); err != nil {
			return wrong{err}
		}
		var err error
		if o.ScoreAt, err = days(dates); err == nil && (len(dates) > 0) != (o.Scores != "") {
			err = errors.New("--score-at and --scores belong together: days, and the file for what is scored")
		}
		if err != nil {
			return wrong{err}
		}
		return nil
	}
	cmd.RunE = work(func(cmd *cobra.Command) error { return c.deps.Backtest(cmd.Context(), o, c.deps.Streams) })
	return cmd
}

func (o *BacktestOptions) check(horizonSet bool) error {
	stdin := 0
	for _, name := range o.Events {
		if name == "-" {
			stdin++
		}
	}
	switch {
	case o.PrintConfig:
		return nil
	case len(o.Events) == 0 && !o.Kafka:
		return errors.New("--events is missing: name the file with the history, or - for standard input; --kafka reads topics")
	case len(o.Events) > 0 && o.Kafka:
		return errors.New("--events and --kafka exclude each other: a history is in files, or in topics")
	case !o.From.IsZero() && !o.Until.IsZero() && !o.From.Before(o.Until):
		return errors.New("--from is not before --until")
	case stdin > 1:
		return errors.New("standard input can be read once only: write --events - once")
	case horizonSet && (o.Horizon < 1 || o.Horizon > 366):
		return fmt.Errorf("--horizon is %d; allowed is 1 to 366 days", o.Horizon)
	case !(o.MaxBad >= 0 && o.MaxBad <= 100):
		return fmt.Errorf("--max-bad-rows is %v; allowed is 0 to 100 percent", o.MaxBad)
	case slices.Contains(o.Events, ""):
		return errors.New("--events has no file name")
	}
	return nil
}

// days reads dates, and puts them into order, each once.
func days(texts []string) ([]time.Time, error) {
	var out []time.Time
	for _, s := range texts {
		t, err := time.Parse(time.DateOnly, strings.TrimSpace(s))
		if err != nil {
			return nil, fmt.Errorf("--score-at: %q is no date; write 2026-01-31, several with commas between", s)
		}
		out = append(out, t)
	}
	slices.SortFunc(out, time.Time.Compare)
	return slices.Compact(out), nil
}
