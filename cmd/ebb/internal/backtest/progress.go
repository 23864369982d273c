package backtest

import (
	"fmt"
	"io"
	"strings"
	"sync"
)

// Progress draws a bar on a terminal. The zero value, and nil, draw nothing. It asks no clock: it is drawn anew with each percent.
type Progress struct {
	// Out is the terminal; nil where there is none.
	Out io.Writer

	mu         sync.Mutex
	what       string
	done, size int64
	shown      int64 // percent, or units of unknown size
}

const barWidth = 30

// Begin starts a stretch of work of a size, 0 where it is not known.
func (p *Progress) Begin(what string, size int64) {
	if p == nil || p.Out == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.what, p.done, p.size, p.shown = what, 0, size, -1
	p.draw()
}

// Add tells of work done.
func (p *Progress) Add(n int64) {
	if p == nil || p.Out == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	p.draw()
}

// End finishes the stretch.
func (p *Progress) End() {
	if p == nil || p.Out == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.Out, "\r\033[K")
	p.what = ""
}

// unknownUnit is after how much of a stretch of unknown size the figure is drawn anew.
const unknownUnit = 1 << 22

func (p *Progress) draw() {
	if p.size <= 0 {
		if at := p.done / unknownUnit; at != p.shown {
			p.shown = at
			fmt.Fprintf(p.Out, "\r\033[K%s  %d MB", p.what, p.done/1_000_000)
		}
		return
	}
	percent := min(100, p.done*100/p.size)
	if percent == p.shown {
		return
	}
	p.shown = percent
	full := int(percent) * barWidth / 100
	fmt.Fprintf(p.Out, "\r\033[K%s  %s%s %3d %%", p.what, strings.Repeat("█", full), strings.Repeat("░", barWidth-full), percent)
}
