package txn_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ebb/stream/txn"
)

func at(second int) time.Time {
	if second == 0 {
		return time.Time{}
	}
	return time.Unix(int64(second), 0)
}

// TestSchedulerOrder: the oldest alert first, then the oldest change, then who came first; one at a time here.
func TestSchedulerOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := txn.NewScheduler(1)
		release, err := s.Acquire(t.Context(), txn.Priority{Change: at(1)})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		turn := make(chan string)
		for _, w := range []struct {
			name          string
			alert, change int
		}{{"change 5", 0, 5}, {"alert 9", 9, 9}, {"change 3, first", 0, 3}, {"change 3, second", 0, 3}, {"alert 7", 7, 8}, {"alert 7, older change", 7, 2}, {"nothing known", 0, 0}} {
			go func() {
				release, err := s.Acquire(t.Context(), txn.Priority{Alert: at(w.alert), Change: at(w.change)})
				if err != nil {
					t.Error(err)
					return
				}
				turn <- w.name
				release()
			}()
			synctest.Wait()
		}
		release()
		for range 7 {
			got = append(got, <-turn)
		}
		want := []string{"alert 7, older change", "alert 7", "alert 9", "nothing known", "change 3, first", "change 3, second", "change 5"}
		if !slices.Equal(got, want) {
			t.Errorf("order %q, want %q", got, want)
		}
	})
}

// TestSchedulerKeepsAPlaceForAlerts: however many plain changes there are, an alert does not wait for them.
func TestSchedulerKeepsAPlaceForAlerts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := txn.NewScheduler(4)
		var granted []func()
		for range 3 {
			release, err := s.Acquire(t.Context(), txn.Priority{Change: at(1)})
			if err != nil {
				t.Fatal(err)
			}
			granted = append(granted, release)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Acquire(ctx, txn.Priority{Change: at(1)}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a fourth plain change: %v, want to wait", err)
		}
		alert, err := s.Acquire(t.Context(), txn.Priority{Alert: at(1)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Acquire(ctx, txn.Priority{Alert: at(1)}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a fifth transaction: %v, want to wait", err)
		}
		alert()
		alert() // again: nothing
		granted[0]()
		for range 2 {
			if _, err := s.Acquire(t.Context(), txn.Priority{Alert: at(1)}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestSchedulerGivesUp: whoever no longer waits takes no place.
func TestSchedulerGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := txn.NewScheduler(1)
		release, err := s.Acquire(t.Context(), txn.Priority{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error)
		go func() {
			_, err := s.Acquire(ctx, txn.Priority{Alert: at(1)})
			failed <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Errorf("Acquire: %v", err)
		}
		release()
		if _, err := s.Acquire(t.Context(), txn.Priority{}); err != nil {
			t.Error(err)
		}
	})
}

// TestSpread: however many tasks there are, no two periodic cuts lie closer than a third of the mean distance.
func TestSpread(t *testing.T) {
	const period = 10 * time.Second
	for _, n := range []int32{1, 2, 8, 12, 64, 100} {
		var due []time.Duration
		for task := range n {
			d := txn.Spread(task, period)
			if d < 0 || d >= period {
				t.Fatalf("task %d: %v", task, d)
			}
			due = append(due, d)
		}
		slices.Sort(due)
		for i := 1; i < len(due); i++ {
			if gap := due[i] - due[i-1]; gap < period/time.Duration(n)/3 {
				t.Errorf("%d tasks: %v and %v", n, due[i-1], due[i])
			}
		}
	}
}

func ExampleSpread() {
	for task := range int32(4) {
		fmt.Println(txn.Spread(task, 10*time.Second).Round(time.Millisecond))
	}
	// Output:
	// 0s
	// 6.18s
	// 2.361s
	// 8.541s
}
