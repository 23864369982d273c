package simulation

import (
	"sync"
	"sync/atomic"
	"time"

	"ebb/state"
)

// newDisk is an empty disk of the kind that the seed gives an instance: how much a transaction of it holds, so that a write of several
// can be cut off between any two, and how long each may take while the storm lasts.
func (in *instance) newDisk() *state.MemDisk {
	rng := chance(in.w.plan.seed, uint64(in.id), 78)
	keys, slowest := pick(rng, 1, 3, 20, 1000), pick[time.Duration](rng, 0, 0, 10*time.Millisecond, 300*time.Millisecond)
	if keys < 20 {
		slowest = min(slowest, 10*time.Millisecond)
	}
	if in.w.plan.sluggish {
		slowest = 3 * time.Second
		if keys < 20 {
			slowest = 300 * time.Millisecond
		}
	}
	d := state.NewMemDisk()
	in.w.mu.Lock()
	in.w.disks = append(in.w.disks, d)
	in.w.mu.Unlock()
	var n atomic.Uint64
	d.Shape(keys, func() {
		if slowest > 0 && in.w.stormy.Load() {
			nap(time.Duration(chance(in.w.plan.seed, uint64(in.id), n.Add(1), 79).Int64N(int64(slowest))))
		}
	})
	return d
}

// fillDisks lets disks run full for a while, in one seed of three.
func (w *world) fillDisks(wg *sync.WaitGroup) {
	rng := chance(w.plan.seed, 80)
	if rng.IntN(3) != 0 || w.plan.class == onDisk {
		return
	}
	for range 1 + rng.IntN(4) {
		at, long := time.Duration(rng.Int64N(int64(w.plan.storm))), time.Duration(rng.ExpFloat64()*float64(3*time.Second))
		in := w.instances[rng.IntN(len(w.instances))]
		wg.Go(func() {
			nap(at)
			d := in.drive()
			w.tell(diskFull, "of instance %d%s", in.id, after(long))
			d.Fill(true)
			nap(long)
			d.Fill(false)
		})
	}
}

// drive is the disk that the machine has at present.
func (in *instance) drive() *state.MemDisk {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.disk
}
