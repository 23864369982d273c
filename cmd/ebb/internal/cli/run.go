package cli

import (
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"ebb/cmd/ebb/internal/config"
)

func (c *CLI) run() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Watch the configured topics until stopped",
		Long: `run reads the configured feeds, raises alerts, and serves the page and the metrics.
SIGTERM or Ctrl-C commits what is in flight and stops; a second one stops at once.`,
		Example: `  ebb run -c ebb.yaml
  KAFKA_PASSWORD=... ebb run -c /etc/ebb/ebb.yaml`,
		Args: cobra.NoArgs,
	}
	path := file(cmd)
	cmd.RunE = work(func(cmd *cobra.Command) error {
		cfg, err := config.Load(*path, c.deps.Config)
		if err != nil {
			return err
		}
		return c.deps.Run(cmd.Context(), cfg, c.logger(cfg.Log))
	})
	return cmd
}

func (c *CLI) logger(l config.Log) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		level = slog.LevelInfo // Load lets no other word through.
	}
	o := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(c.deps.Stderr, o))
	}
	return slog.New(slog.NewTextHandler(c.deps.Stderr, o))
}

// DemoOptions are the flags of ebb demo.
type DemoOptions struct {
	For         time.Duration // stop after this long; 0: when told to
	Seed        uint64        // the crowd; the same seed is the same crowd
	Listen      string        // address of the page; a busy port takes the next free one
	NoBrowser   bool          // do not open a browser
	PrintConfig bool          // write a configuration to begin with, like the demo's, as YAML to standard output, and stop
	JSON        bool          // write the summary as one JSON object
}

func (c *CLI) demo() *cobra.Command {
	var o DemoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show ebb at work on simulated customers; nothing to install",
		Long: `demo starts an embedded broker, a few thousand simulated customers with 120 days of
history, and ebb itself with its page. Then a simulated day goes by each second. It
ends with a summary: who left, who was found, and how early. Its files are in a folder
of their own in the directory for temporary files, gone when it ends; what demos left
there that were killed is removed at the next start.`,
		Example: `  ebb demo
  ebb demo --for 30s --no-browser --output json
  ebb demo --seed 7
  ebb demo --print-config > ebb.yaml`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	var howLong length
	f.Var(&howLong, "for", "stop after this long, for example 30s (default: when stopped)")
	f.Uint64Var(&o.Seed, "seed", 1, "which crowd; the same seed repeats it")
	f.StringVar(&o.Listen, "listen", "127.0.0.1:9464", "where the page is; a busy port takes the next free one")
	f.BoolVar(&o.NoBrowser, "no-browser", false, "do not open a browser")
	f.BoolVar(&o.PrintConfig, "print-config", false, "write a configuration like the demo's, to put your brokers and topics in, and stop")
	asJSON := output(cmd)
	cmd.PreRunE = func(*cobra.Command, []string) error {
		_, port, err := net.SplitHostPort(o.Listen)
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if err != nil {
			return wrong{fmt.Errorf("--listen %s is no address; write host:port, for example 127.0.0.1:9464", o.Listen)}
		}
		return nil
	}
	cmd.RunE = work(func(cmd *cobra.Command) error {
		o.For, o.JSON = howLong.value, asJSON()
		return c.deps.Demo(cmd.Context(), o, c.deps.Streams)
	})
	return cmd
}
