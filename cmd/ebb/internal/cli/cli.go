package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ebb/cmd/ebb/internal/config"
	"ebb/stream"
	"ebb/stream/conn"
)

// Exit codes.
const (
	Done   = 0 // the command did what it was asked to
	Failed = 1 // it could not, for a reason that showed at run time
	Wrong  = 2 // wrong usage or configuration
)

// Runner runs the engine until ctx ends, and returns once everything in flight is committed. nil is a clean stop.
type Runner func(ctx context.Context, cfg *config.Config, log *slog.Logger) error

// Demo runs the demonstration until ctx ends or the time asked for is over. Its summary goes to out.Stdout, the rest to
// out.Stderr.
type Demo func(ctx context.Context, o DemoOptions, out Streams) error

// Upkeep makes what the state commands work with. The caller closes it.
type Upkeep func(ctx context.Context, cfg *config.Config, cluster *conn.Cluster, log *slog.Logger) (*stream.Upkeep, error)

// Streams are where a command writes.
type Streams struct {
	Stdout io.Writer // results
	Stderr io.Writer // progress, logs, errors
}

// Deps is what the command tree needs from outside.
type Deps struct {
	Streams
	Config   config.Source                                                     // environment and files; zero: the operating system
	Dial     func(ctx context.Context, network, addr string) (net.Conn, error) // nil: the network
	Run      Runner                                                            // nil: there is no run command
	Demo     Demo                                                              // nil: there is no demo command
	Upkeep   Upkeep                                                            // nil: there are no state commands
	Backtest Backtest                                                          // nil: there is no backtest command
	Now      func() time.Time                                                  // the wall clock
	Stdin    io.Reader                                                         // what a command reads that is told to read standard input
	Version  Version
}

// CLI is the command tree.
type CLI struct {
	deps Deps
	root *cobra.Command
}

// New builds the command tree.
func New(d Deps) *CLI {
	c := &CLI{deps: d}
	c.root = c.command()
	return c
}

// ran marks an error that a command returned while doing its work. All other errors of cobra are wrong usage.
type ran struct{ err error }

func (r ran) Error() string { return r.err.Error() }
func (r ran) Unwrap() error { return r.err }

// errReported is the error of a command that has already printed what is wrong as its result.
var errReported = errors.New("reported")

// wrong is a wrong use that only the command itself can see.
type wrong struct{ error }

// Execute runs the command that args name, without the program's name, and returns the exit code.
func (c *CLI) Execute(ctx context.Context, args []string) int {
	c.root.SetArgs(args)
	cmd, err := c.root.ExecuteContextC(ctx)
	if err == nil {
		return Done
	}
	var (
		r      ran
		faults config.Faults
		w      wrong
	)
	switch {
	case errors.As(err, &faults):
		fmt.Fprintln(c.deps.Stderr, faults.Error())
		return Wrong
	case errors.As(err, &w):
		return c.usage(cmd, w.error)
	case !errors.As(err, &r):
		return c.usage(cmd, err)
	case errors.Is(err, errFaults):
		return Wrong
	case !errors.Is(err, errReported):
		fmt.Fprintln(c.deps.Stderr, "ebb: "+message(r.err))
	}
	return Failed
}

func (c *CLI) usage(cmd *cobra.Command, err error) int {
	text := strings.TrimRight(err.Error(), "\n")
	if !strings.Contains(text, "\n") {
		text += "; see " + cmd.CommandPath() + " --help"
	}
	fmt.Fprintln(c.deps.Stderr, "ebb: "+text)
	return Wrong
}

// message is an error as people read it: what is wrong; what to do.
func message(err error) string {
	var f *conn.Fault
	if !errors.As(err, &f) {
		return err.Error()
	}
	plain := *f
	plain.Mend = ""
	if f.Mend == "" {
		return plain.Error()
	}
	return plain.Error() + "; " + f.Mend
}

func (c *CLI) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "ebb",
		Short: "ebb watches customers leave quietly",
		Long: `ebb reads usage, payment and complaint topics from Kafka, keeps windows for each
customer, and raises an alert when money or activity ebbs away without a word, or
when a complaint is left lying.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	if c.deps.Demo != nil {
		root.Example = "  ebb demo                    # try it: nothing to install\n"
	}
	root.Example += `  ebb config check            # is ./ebb.yaml right?
  ebb topics create           # make the topics that ebb writes
  ebb run -c ebb.yaml         # watch your own topics
  ebb alerts tail             # see alerts as they come`
	root.SetOut(c.deps.Stdout)
	root.SetErr(c.deps.Stderr)
	root.CompletionOptions.HiddenDefaultCmd = true
	if c.deps.Run != nil {
		root.AddCommand(c.run())
	}
	if c.deps.Demo != nil {
		root.AddCommand(c.demo())
	}
	if c.deps.Backtest != nil {
		root.AddCommand(c.backtest())
	}
	root.AddCommand(c.config(), c.topics(), c.alerts(), c.dlq(), c.version())
	if c.deps.Upkeep != nil {
		root.AddCommand(c.state())
	}
	return root
}

// group is a command that only holds others.
func group(use, short, example string, children ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:     use,
		Short:   short,
		Example: example,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return fmt.Errorf("%s needs a command: %s", cmd.CommandPath(), names(cmd))
		},
	}
	cmd.SetFlagErrorFunc(func(at *cobra.Command, err error) error {
		if at != cmd {
			return err
		}
		return fmt.Errorf("%s needs a command before its flags: %s", cmd.CommandPath(), names(cmd))
	})
	cmd.AddCommand(children...)
	return cmd
}

func names(cmd *cobra.Command) string {
	var list []string
	for _, sub := range cmd.Commands() {
		list = append(list, sub.Name())
	}
	return strings.Join(list, ", ")
}

// work makes a command's function one whose errors are failures at run time.
func work(f func(cmd *cobra.Command) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		if err := f(cmd); err != nil {
			return ran{err}
		}
		return nil
	}
}
