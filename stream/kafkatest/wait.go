package kafkatest

import (
	"context"
	"fmt"
	"testing"
	"time"
)

func unixMilli(ms int64) time.Time { return time.UnixMilli(ms) }

// Poll calls f every 10 ms until it returns nil, and returns its last error when ctx ends first.
func Poll(ctx context.Context, f func() error) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// Eventually waits until f returns nil, at most as long as any helper of this package.
func Eventually(t testing.TB, what string, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := Poll(ctx, f); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}
