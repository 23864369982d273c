package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "planted:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	limit := flag.Duration("cpu", 10*time.Minute, "CPU time for each bug in the simulation; 0: only the tests are asked")
	only := flag.String("only", "", "regular expression: bugs with such a name")
	jobs := flag.Int("jobs", runtime.NumCPU(), "bugs at a time")
	from := flag.Uint64("from", 1, "first seed")
	missed := flag.Int("missed", 3, "how many bugs may be missed")
	tests := flag.Bool("tests", true, "ask the tests of the changed packages about bugs that the simulation misses")
	table := flag.String("table", "", "file whose table takes the results, such as docs/testing.md; lines of other bugs stay")
	nice := flag.Int("nice", 10, "how much the simulations give way to other processes, 0 to 19")
	flag.Parse()
	wanted, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	bugs, err := load("cmd/ebb/internal/planted/testdata")
	if err != nil {
		return fmt.Errorf("%w (run it in the root of the repository)", err)
	}
	bugs = slices.DeleteFunc(bugs, func(b *bug) bool { return !wanted.MatchString(b.name) })
	work, err := os.MkdirTemp("", "planted")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	h := &hunter{root: root, work: work, limit: *limit, from: *from, portion: 25, nice: *nice, tests: *tests}
	if err := h.prepare(ctx); err != nil {
		return err
	}
	results, err := h.huntAll(ctx, bugs, *jobs, func(r *result) error {
		if *table == "" {
			return nil
		}
		return addTo(*table, r)
	})
	if err != nil {
		return err
	}
	return report(results, *missed)
}

// huntAll looks for several bugs at a time, and says what became of each.
func (h *hunter) huntAll(ctx context.Context, bugs []*bug, jobs int, done func(*result) error) ([]*result, error) {
	todo := make(chan *bug)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var all []*result
	var first error
	for range jobs {
		wg.Go(func() {
			for b := range todo {
				r, err := h.hunt(ctx, b)
				mu.Lock()
				if err != nil {
					first = cmp.Or(first, err)
					fmt.Fprintf(os.Stderr, "%s: %v\n", b.name, err)
				} else {
					all = append(all, r)
					first = cmp.Or(first, done(r))
					fmt.Fprintln(os.Stderr, r)
				}
				mu.Unlock()
			}
		})
	}
	for _, b := range bugs {
		todo <- b
	}
	close(todo)
	wg.Wait()
	slices.SortFunc(all, func(a, b *result) int { return strings.Compare(a.bug.name, b.bug.name) })
	return all, first
}

func (r *result) String() string {
	s := fmt.Sprintf("%s: missed, %d seeds, %.0f s", r.bug.name, r.seeds, r.cpu.Seconds())
	switch {
	case r.test != "":
		s = fmt.Sprintf("%s: caught by the test %s, %.0f s", r.bug.name, r.test, r.cpu.Seconds())
	case r.caught:
		s = fmt.Sprintf("%s: caught by seed %d (%s), %.1f s", r.bug.name, r.seed, r.by, r.cpu.Seconds())
	}
	if r.doubt > 0 {
		s += fmt.Sprintf("; %d failures are not the bug's", r.doubt)
	}
	return s
}

// report prints the table, and fails if too many were missed.
func report(all []*result, bearable int) error {
	fmt.Println(tableHead)
	caught, tests := 0, 0
	for _, r := range all {
		fmt.Println(r.line())
		if r.caught {
			caught++
		}
		if r.test != "" {
			tests++
		}
	}
	fmt.Printf("\n%d of %d are caught, %d of them by tests of their packages.\n", caught, len(all), tests)
	if len(all)-caught > bearable {
		return fmt.Errorf("%d bugs are missed", len(all)-caught)
	}
	return nil
}
