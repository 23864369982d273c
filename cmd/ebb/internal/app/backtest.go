package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"ebb/cmd/ebb/internal/backtest"
	"ebb/cmd/ebb/internal/cli"
	"ebb/cmd/ebb/internal/config"
	"ebb/detectors"
	"ebb/stream"
	"ebb/stream/conn"
	"ebb/stream/event"
	"ebb/stream/tail"
)

// Backtest is `ebb backtest`: the same rules as Run, on a history instead of topics.
func Backtest(ctx context.Context, o cli.BacktestOptions, out cli.Streams) error {
	cfg, err := backtestConfig(&o)
	if err != nil {
		return err
	}
	if o.PrintConfig {
		_, err := out.Stdout.Write(backtest.DefaultConfig())
		return err
	}
	variants, err := backtestVariants(cfg)
	if err != nil {
		return err
	}
	rules := variants[0].Rules
	progress := &backtest.Progress{Out: terminal(out.Stderr)}
	in := backtest.InputOptions{
		Files: o.Events, From: millis(o.From), Until: millis(o.Until), Stdin: o.Stdin, Feeds: rules.Feeds, Rates: rules.Rates, MaxRecordBytes: rules.MaxRecordBytes,
		StopAtBadRow: o.StopAtBad, MaxBadShare: o.MaxBad / 100, MaxBytes: o.MaxMemory, Progress: progress,
	}
	if o.Kafka {
		cluster, err := connect(ctx, cfg, &o)
		if err != nil {
			return err
		}
		defer cluster.Close()
		in.Topic = topicReader(cluster)
	}
	h, err := backtest.Read(ctx, &in)
	if err != nil {
		return err
	}
	tellBadRows(out.Stderr, h)
	report, detail, err := backtest.Backtest(ctx, h, &backtest.Options{
		Variants:     variants,
		ScoreAt:      scoreDays(o.ScoreAt),
		LeastBalance: event.Money(cfg.Detectors.Outflow.MinBalance),
		HorizonDays:  horizonDays(cfg), Config: cfg.Hash(), Currency: cfg.Money.Currency, Progress: progress,
	})
	if err != nil {
		return err
	}
	if err := writeFile(o.Report, report.HTML); err != nil {
		return err
	}
	if o.Scores != "" {
		if len(detail.Rows) == 0 {
			fmt.Fprintln(out.Stderr, "ebb: nobody could be scored: at these dates too little was known of the customers")
		}
		if err := writeFile(o.Scores, func(w io.Writer) error { return backtest.WriteScores(w, detail.Rows) }); err != nil {
			return err
		}
	}
	if err := writeFile(o.Alerts, func(w io.Writer) error { return backtest.WriteAlerts(w, detail, cfg.Money.Currency) }); err != nil {
		return err
	}
	if o.JSON {
		enc := json.NewEncoder(out.Stdout)
		enc.SetEscapeHTML(false)
		return enc.Encode(report)
	}
	return report.Text(out.Stdout)
}

// connect reaches the brokers that were named, or those of the configuration.
func connect(ctx context.Context, cfg *config.Config, o *cli.BacktestOptions) (*conn.Cluster, error) {
	settings := cfg.Connection()
	settings.Dial = o.Dial
	if len(o.Brokers) > 0 {
		settings.Brokers = o.Brokers
	}
	cluster, err := conn.New(settings)
	if err != nil {
		return nil, err
	}
	if err := cluster.Check(ctx); err != nil {
		cluster.Close()
		return nil, err
	}
	return cluster, nil
}

// topicReader reads what a topic holds by now: what is committed, from its start to its end.
func topicReader(cluster *conn.Cluster) func(context.Context, stream.FeedConfig, func(backtest.TopicRecord) error) error {
	return func(ctx context.Context, f stream.FeedConfig, take func(backtest.TopicRecord) error) error {
		return tail.Read(ctx, cluster, tail.Options{Topic: f.Topic, UntilEnd: true}, func(r tail.Record) error {
			return take(backtest.TopicRecord{Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp, Key: r.Key, Value: r.Value})
		})
	}
}

// millis is a time in event time, 0 for none.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// writeFile writes a file, if one was asked for: as a whole, or not at all.
func writeFile(path string, write func(io.Writer) error) error {
	if path == "" {
		return nil
	}
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil { //nolint:gosec // results are there to be shown around
		return fmt.Errorf("result: %w", err)
	}
	return nil
}

func horizonDays(cfg *config.Config) int { return int(cfg.Alerts.Horizon.Std() / (24 * time.Hour)) }

func scoreDays(at []time.Time) []int32 {
	var days []int32
	for _, t := range at {
		days = append(days, int32(t.Unix()/(24*3600)))
	}
	return days
}

// backtestConfig is the named configuration, or the one that holds without a name, with the horizon that was asked for.
func backtestConfig(o *cli.BacktestOptions) (*config.Config, error) {
	path, src := o.Config, config.Source{}
	if path == "" {
		path = "the configuration that holds without -c"
		src.ReadFile = func(string) ([]byte, error) { return backtest.DefaultConfig(), nil }
	}
	cfg, err := config.Load(path, src)
	if err != nil {
		return nil, err
	}
	if o.Horizon == 0 {
		return cfg, nil
	}
	const day = config.Duration(24 * 3_600_000_000_000)
	cfg.Alerts.Horizon = config.Duration(o.Horizon) * day
	// Who is silent for less than two horizons is not gone yet, however long the horizon.
	cfg.Alerts.LapseAfter = max(cfg.Alerts.LapseAfter, 2*cfg.Alerts.Horizon)
	// Who comes back is one of those from whom the model learns only if he was not forgotten; an outcome counts half after four horizons.
	cfg.Alerts.ForgetAfter = max(cfg.Alerts.ForgetAfter, 5*cfg.Alerts.Horizon)
	cfg.Rehash()
	return cfg, nil
}

// backtestVariants are the rules as they are configured and, unless that is what they are, the plain ones beside them.
func backtestVariants(cfg *config.Config) ([]backtest.Variant, error) {
	rules, err := backtestRules(cfg)
	if err != nil {
		return nil, err
	}
	all := []backtest.Variant{{Name: "as configured", Rules: rules, Methods: methods(cfg)}}
	if cfg.Detectors.Silence.Method == detectors.Plain && cfg.Detectors.SpendDrop.Method == detectors.Plain {
		return all, nil
	}
	plain := *cfg
	plain.Detectors.Silence.Method, plain.Detectors.SpendDrop.Method = detectors.Plain, detectors.Plain
	if rules, err = backtestRules(&plain); err != nil {
		return nil, fmt.Errorf("the plain rules beside: %w", err)
	}
	return append(all, backtest.Variant{Name: "plain rules", Rules: rules, Methods: methods(&plain)}), nil
}

func methods(cfg *config.Config) map[string]string {
	return map[string]string{detectors.SilenceName: cfg.Detectors.Silence.Method, detectors.SpendDropName: cfg.Detectors.SpendDrop.Method}
}

// backtestRules are the pieces of a task.
func backtestRules(cfg *config.Config) (*backtest.Rules, error) {
	sc, set, policy, err := parts(cfg)
	if err != nil {
		return nil, err
	}
	sc.Customer.Horizon = horizonDays(cfg)
	return &backtest.Rules{
		Detectors: set, Policy: policy, Feeds: sc.Feeds, Customer: sc.Customer, Rates: sc.Rates, Zone: sc.Time.Zone, Cohorts: sc.Cohorts,
		MaxOutOfOrder: sc.Time.MaxOutOfOrder.Milliseconds(), MaxRecordBytes: sc.MaxRecordBytes,
	}, nil
}

// terminal is w where a person sees it, nil elsewhere.
func terminal(w io.Writer) io.Writer {
	f, ok := w.(*os.File)
	if !ok {
		return nil
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	return f
}

// tellBadRows names the rows that were skipped.
func tellBadRows(w io.Writer, h *backtest.History) {
	for i := range h.BadRows {
		fmt.Fprintln(w, "ebb: skipped "+h.BadRows[i].Error())
	}
	if more := h.Bad - len(h.BadRows); more > 0 {
		fmt.Fprintf(w, "ebb: and %d more rows\n", more)
	}
}
