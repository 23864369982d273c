package demo

import (
	"sync"
	"time"
)

// oneDay of simulated time passes in a second at speed 1.
const oneDay = 24 * time.Hour

// clock is the simulated clock. It shows what the driver has let pass, never more; at tells where it should be by now.
type clock struct {
	mu    sync.Mutex
	tick  func() time.Time
	speed float64 // simulated days a second
	base  time.Time
	since time.Time // of the process, when base was set
	shown time.Time
	// passed remembers when, in the time of the process, the clock reached a simulated time: a ring for the latency of alerts.
	passed []passage
	next   int
}

type passage struct{ simulated, real time.Time }

// passages are kept for the last few thousand steps: more than two minutes at speed 1.
const passages = 4096

func newClock(at time.Time, speed float64, tick func() time.Time) *clock {
	return &clock{tick: tick, speed: speed, base: at, shown: at, since: tick()}
}

// now is what the clock shows.
func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.shown
}

// start lets the clock run from what it shows.
func (c *clock) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.base, c.since = c.shown, c.tick()
}

// target is where the clock should be by now, but at most step after what it shows. A driver that cannot keep up makes the
// simulation slower, not jumpy.
func (c *clock) target(step time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	elapsed := c.tick().Sub(c.since)
	at := c.base.Add(time.Duration(c.speed * float64(oneDay) * elapsed.Seconds()))
	if limit := c.shown.Add(step); at.After(limit) {
		if at.Sub(limit) > step {
			c.base, c.since = limit, c.tick()
		}
		return limit
	}
	return at
}

// show lets the clock show t: all that happens before it is in the topics.
func (c *clock) show(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shown = t
	p := passage{simulated: t, real: c.tick()}
	if len(c.passed) < passages {
		c.passed = append(c.passed, p)
		return
	}
	c.passed[c.next] = p
	c.next = (c.next + 1) % passages
}

// since tells how long ago, in the time of the process, the clock reached the simulated time t; false if it has not, or if that
// is too long ago to be remembered.
func (c *clock) ago(t time.Time) (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.passed)
	lo, hi := 0, n
	at := func(i int) *passage { return &c.passed[(c.next+i)%n] }
	if n == 0 || t.Before(at(0).simulated) {
		return 0, false
	}
	for lo < hi {
		mid := (lo + hi) / 2
		if at(mid).simulated.Before(t) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == n {
		return 0, false
	}
	return c.tick().Sub(at(lo).real), true
}

func (c *clock) setSpeed(s float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.base, c.since, c.speed = c.shown, c.tick(), s
}

func (c *clock) currentSpeed() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.speed
}
