package cli_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"ebb/cmd/ebb/internal/cli"
)

// What is asked of the command arrives, and a wrong question is answered before anything is read.
func TestBacktestFlags(t *testing.T) {
	var got cli.BacktestOptions
	p := newProgram()
	p.deps.Backtest = func(_ context.Context, o cli.BacktestOptions, _ cli.Streams) error {
		got = o
		return nil
	}
	p.deps.Stdin = strings.NewReader("")
	if code := p.run(context.Background(), "backtest", "-e", "a.csv", "--events", "-", "--horizon", "90", "--score-at", "2024-02-01,2024-01-01,2024-02-01",
		"--scores", "s.csv", "--bad-rows", "stop", "--max-memory", "1GB", "-o", "json"); code != cli.Done {
		t.Fatalf("exit code %d\n%s", code, p.errOut.String())
	}
	first := time.Date(2024, time.January, 1, 0, 0, 0, 0, time.UTC)
	if len(got.ScoreAt) != 2 || !got.ScoreAt[0].Equal(first) || got.Horizon != 90 || !got.StopAtBad || !got.JSON || got.MaxMemory != 1e9 || len(got.Events) != 2 {
		t.Errorf("got %+v", got)
	}
	for _, wrong := range [][]string{
		{},
		{"--events", "-", "--events", "-"},
		{"--events", ""},
		{"--events", "a", "--horizon", "0"},
		{"--events", "a", "--horizon", "367"},
		{"--events", "a", "--score-at", "2024-01-01"},
		{"--events", "a", "--scores", "s.csv"},
		{"--events", "a", "--score-at", "yesterday", "--scores", "s.csv"},
		{"--events", "a", "--bad-rows", "maybe"},
		{"--events", "a", "--max-bad-rows", "101"},
		{"--events", "a", "--max-memory", "0"},
		{"--events", "a", "b"},
		{"--events", "a", "--kafka"},
		{"--events", "a", "--brokers", "b:1"},
		{"--kafka", "--from", "soon"},
		{"--kafka", "--from", "2024-02-01", "--until", "2024-02-01"},
	} {
		if code := p.run(context.Background(), append([]string{"backtest"}, wrong...)...); code != cli.Wrong {
			t.Errorf("%q: exit code %d, want %d", wrong, code, cli.Wrong)
		}
	}
}

func TestBacktestThatFails(t *testing.T) {
	p := newProgram()
	p.deps.Backtest = func(context.Context, cli.BacktestOptions, cli.Streams) error { return errors.New("no such file") }
	if code := p.run(context.Background(), "backtest", "-e", "a.csv"); code != cli.Failed {
		t.Errorf("exit code %d, want %d", code, cli.Failed)
	}
}
