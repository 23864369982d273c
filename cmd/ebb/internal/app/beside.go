package app

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"

	"ebb/cmd/ebb/internal/console"
)

// group is what runs beside the engine: its faults are logged and do not end the engine.
type group struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func (g *group) start(what string, log *slog.Logger, run func(context.Context) error) {
	g.wg.Go(func() {
		if err := run(g.ctx); err != nil && g.ctx.Err() == nil {
			log.Error("a part beside the engine failed; the engine goes on", "part", what, "err", err)
		}
	})
}

func (g *group) stop() {
	g.cancel()
	g.wg.Wait()
}

// abandon closes the listener of a page that never ran.
func (p *Page) abandon() error {
	if p == nil {
		return nil
	}
	return p.listener.Close()
}

func sorted(order []int32, byDay map[int32]*console.Day) []console.Day {
	slices.Sort(order)
	days := make([]console.Day, 0, len(order))
	for _, n := range order {
		days = append(days, *byDay[n])
	}
	slices.SortFunc(days, func(a, b console.Day) int { return cmp.Compare(a.Date, b.Date) })
	return days
}
