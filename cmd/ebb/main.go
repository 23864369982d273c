// Command ebb watches customers leave quietly: it reads usage, payment and complaint topics from Kafka and raises an alert
// when money or activity ebbs away without a word, or when a complaint is left lying.
//
// Only the outermost things are here: arguments, signals, and the exit code. What the commands do is in
// internal/cli.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"ebb/cmd/ebb/internal/app"
	"ebb/cmd/ebb/internal/cli"
	"ebb/cmd/ebb/internal/config"
	"ebb/stream"
	"ebb/stream/conn"
)

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	ctx, cancel := untilSignalled()
	defer cancel()
	v := cli.BuildVersion()
	return cli.New(cli.Deps{
		Streams: cli.Streams{Stdout: os.Stdout, Stderr: os.Stderr},
		Version: v,
		Run: func(ctx context.Context, cfg *config.Config, log *slog.Logger) error {
			return app.Run(ctx, cfg, v.Version, outside(log))
		},
		Demo: func(ctx context.Context, o cli.DemoOptions, out cli.Streams) error {
			return app.Demo(ctx, o, out, v.Version, outside(nil))
		},
		Backtest: app.Backtest,
		Now:      time.Now,
		Stdin:    os.Stdin,
		Upkeep: func(ctx context.Context, cfg *config.Config, cluster *conn.Cluster, log *slog.Logger) (*stream.Upkeep, error) {
			return app.NewUpkeep(ctx, cfg, cluster, outside(log))
		},
	}).Execute(ctx, args)
}

// untilSignalled ends the context at the first SIGINT or SIGTERM, so that work in flight is committed, and the process at
// the second.
func untilSignalled() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals
		fmt.Fprintln(os.Stderr, "ebb: stopped at once; what was not committed is done again at the next start")
		os.Exit(cli.Failed)
	}()
	return ctx, cancel
}

// outside is the real world: the clock of the machine, which is also that of event time, and randomness.
func outside(log *slog.Logger) app.Outside {
	return app.Outside{Now: time.Now, Tick: time.Now, Rand: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())), Log: log}
}
