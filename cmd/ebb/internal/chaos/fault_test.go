//go:build linux

package chaos

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// fault is one kind of thing that goes wrong. begin does it, and says what it did and how it ends; it answers errSkip when it cannot be
// done at the moment.
type fault struct {
	kind   string
	weight int
	begin  func(r *round) (what string, end ending, err error)
}

// ending is how a fault is over: after so long, by that.
type ending struct {
	after time.Duration
	do    func() string // says what it did, "" for nothing worth a line
}

var errSkip = errors.New("not now")

// faultKinds are all faults. The weights make those of processes and brokers about as frequent as those of the network.
func faultKinds() []fault {
	return []fault{
		{"ebb killed", 10, (*round).killEbb},
		{"ebb killed, state wiped", 4, (*round).wipeEbb},
		{"ebb killed, state damaged", 4, (*round).damageEbb},
		{"ebb paused beyond its session", 8, (*round).pauseEbb},
		{"ebb paused briefly", 4, (*round).blinkEbb},
		{"ebb restarted", 8, (*round).restartEbb},
		{"ebb away", 4, (*round).leaveEbb},
		{"member added", 4, (*round).joinEbb},
		{"rolling restart", 2, (*round).rollEbb},
		{"broker killed", 6, (*round).killBroker},
		{"broker paused", 4, (*round).pauseBroker},
		{"leaders moved", 8, (*round).moveLeaders},
		{"delay", 5, (*round).delay},
		{"narrow band", 4, (*round).narrow},
		{"connections reset", 5, (*round).reset},
		{"connections cut within a message", 5, (*round).sever},
		{"half-open", 4, (*round).halfOpen},
		{"answers lost", 5, (*round).answersLost},
		{"connections refused", 4, (*round).refuse},
		{"instance cut off", 5, (*round).cutOff},
		{"disk full", 4, (*round).fillDisk},
		{"disk full to the last byte", 2, (*round).brimDisk},
	}
}

// between is a random duration.
func between(rng *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(rng.Int64N(int64(to-from)))
}

// slotThat claims a random slot that runs, or does not.
func (r *round) slotThat(running bool) (*slot, error) {
	for _, i := range r.rng.Perm(len(r.slots)) {
		if s := r.slots[i]; s.take(running) {
			return s, nil
		}
	}
	return nil, errSkip
}

func (r *round) killEbb() (string, ending, error) {
	s, err := r.slotThat(true)
	if err != nil {
		return "", ending{}, err
	}
	s.kill()
	back := time.Duration(0)
	if r.rng.IntN(3) > 0 {
		back = between(r.rng, 0, 5*time.Second)
	}
	return s.String(), r.revive(s, back), nil
}

// revive starts a slot again and gives it back.
func (r *round) revive(s *slot, after time.Duration) ending {
	return ending{after, func() string {
		defer s.release()
		if err := s.start(); err != nil {
			return err.Error()
		}
		return s.String() + " started"
	}}
}

func (r *round) wipeEbb() (string, ending, error) {
	s, err := r.slotThat(true)
	if err != nil {
		return "", ending{}, err
	}
	s.kill()
	return s.String(), r.revive(s, between(r.rng, 0, 3*time.Second)), s.wipe()
}

func (r *round) damageEbb() (string, ending, error) {
	s, err := r.slotThat(true)
	if err != nil {
		return "", ending{}, err
	}
	s.kill()
	what, err := damage(r.rng, s.dir)
	return s.String() + ": " + what, r.revive(s, between(r.rng, 0, 3*time.Second)), err
}

// damage ruins one of the files of a store: overwrites a stretch of it, cuts it off or takes it away. Of the logs of a store only the newest is
// touched: that an older one has lost its end cannot be told from a flush that was done.
func damage(rng *rand.Rand, dir string) (string, error) {
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && (slices.Contains([]string{".sst", ".mem", ".vlog"}, filepath.Ext(path)) || d.Name() == "MANIFEST") {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) == 0 {
		return "nothing there to damage", err
	}
	path := files[rng.IntN(len(files))]
	if filepath.Ext(path) == ".mem" {
		logs, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*.mem"))
		if err != nil {
			return "", err
		}
		path = slices.Max(logs)
	}
	name := strings.TrimPrefix(path, dir+"/")
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	switch how := rng.IntN(4); {
	case how == 0:
		return name + " removed", os.Remove(path)
	case how == 1 && info.Size() > 0:
		at := rng.Int64N(info.Size())
		return fmt.Sprintf("%s cut off at byte %d of %d", name, at, info.Size()), os.Truncate(path, at)
	default:
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return "", err
		}
		defer f.Close()
		noise := make([]byte, 64+rng.IntN(4096))
		for i := range noise {
			noise[i] = byte(rng.Uint32())
		}
		// where the content is: most of a memtable's file is empty
		at := rng.Int64N(max(1, min(info.Size(), 64<<10)))
		_, err = f.WriteAt(noise, at)
		return fmt.Sprintf("%s overwritten, %d bytes at %d", name, len(noise), at), err
	}
}

func (r *round) pauseEbb() (string, ending, error) { return r.paused(7*time.Second, 14*time.Second) }

func (r *round) blinkEbb() (string, ending, error) {
	return r.paused(200*time.Millisecond, 4*time.Second)
}

func (r *round) paused(from, to time.Duration) (string, ending, error) {
	s, err := r.slotThat(true)
	if err != nil {
		return "", ending{}, err
	}
	if err := s.signal(syscall.SIGSTOP); err != nil {
		s.release()
		return "", ending{}, errSkip
	}
	d := between(r.rng, from, to)
	return fmt.Sprintf("%v for %v", s, d.Round(time.Millisecond)), ending{d, func() string {
		defer s.release()
		_ = s.signal(syscall.SIGCONT)
		return s.String() + " goes on"
	}}, nil
}

func (r *round) restartEbb() (string, ending, error) {
	s, err := r.slotThat(true)
	if err != nil {
		return "", ending{}, err
	}
	return s.String(), r.stopAndRevive(s, between(r.rng, 0, 3*time.Second)), nil
}

func (r *round) leaveEbb() (string, ending, error) {
	if r.count(true) < 2 {
		return "", ending{}, errSkip
	}
	s, err := r.slotThat(true)
	if err != nil {
		return "", ending{}, err
	}
	return s.String(), r.stopAndRevive(s, between(r.rng, 8*time.Second, 20*time.Second)), nil
}

// stopAndRevive stops a slot with SIGTERM at once and starts it again after a while.
func (r *round) stopAndRevive(s *slot, after time.Duration) ending {
	return ending{0, func() string {
		took, err := s.stop()
		r.stopped(s, took, err)
		timer := time.NewTimer(after)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.healing:
		}
		return fmt.Sprintf("stopped in %v; %s", took.Round(time.Millisecond), r.revive(s, 0).do())
	}}
}

// joinEbb adds a member, which leaves some time later.
func (r *round) joinEbb() (string, ending, error) {
	s, err := r.slotThat(false)
	if err != nil {
		return "", ending{}, err
	}
	if err := s.start(); err != nil {
		s.release()
		return "", ending{}, err
	}
	stay := between(r.rng, 5*time.Second, 25*time.Second)
	return fmt.Sprintf("%v for %v", s, stay.Round(time.Second)), ending{stay, func() string {
		defer s.release()
		took, err := s.stop()
		r.stopped(s, took, err)
		return fmt.Sprintf("%v left in %v", s, took.Round(time.Millisecond))
	}}, nil
}

// rollEbb restarts all that run, one after another.
func (r *round) rollEbb() (string, ending, error) {
	var taken []*slot
	for _, s := range r.slots {
		if s.take(true) {
			taken = append(taken, s)
		}
	}
	if len(taken) < 2 {
		for _, s := range taken {
			s.release()
		}
		return "", ending{}, errSkip
	}
	return fmt.Sprint(taken), ending{0, func() string {
		for _, s := range taken {
			took, err := s.stop()
			r.stopped(s, took, err)
			_ = s.start()
			s.release()
		}
		return fmt.Sprint("rolled ", taken)
	}}, nil
}

// node claims a broker that works, as long as the others are enough for a majority; once in a while it takes that away too.
func (r *round) node() (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	away := 0
	for _, gone := range r.gone {
		if gone {
			away++
		}
	}
	if away > 1 || away == 1 && r.rng.IntN(6) > 0 {
		return 0, errSkip
	}
	for _, i := range r.rng.Perm(r.cluster.Len()) {
		if !r.gone[i] {
			r.gone[i] = true
			return i, nil
		}
	}
	return 0, errSkip
}

func (r *round) returned(i int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone[i] = false
}

func (r *round) killBroker() (string, ending, error) {
	i, err := r.node()
	if err != nil {
		return "", ending{}, err
	}
	r.cluster.Node(i).Kill()
	return fmt.Sprintf("broker%d", i), ending{between(r.rng, 0, 6*time.Second), func() string {
		defer r.returned(i)
		if err := r.cluster.Node(i).Start(); err != nil {
			return err.Error()
		}
		return fmt.Sprintf("broker%d started", i)
	}}, nil
}

func (r *round) pauseBroker() (string, ending, error) {
	i, err := r.node()
	if err != nil {
		return "", ending{}, err
	}
	if err := r.cluster.Node(i).Freeze(); err != nil {
		r.returned(i)
		return "", ending{}, errSkip
	}
	d := between(r.rng, 500*time.Millisecond, 8*time.Second)
	return fmt.Sprintf("broker%d for %v", i, d.Round(time.Millisecond)), ending{d, func() string {
		defer r.returned(i)
		_ = r.cluster.Node(i).Thaw()
		return fmt.Sprintf("broker%d goes on", i)
	}}, nil
}

// anyLink is a way between a running instance and a broker.
func (r *round) anyLink() (link, error) {
	for _, i := range r.rng.Perm(len(r.slots)) {
		if r.slots[i].running() {
			return link{i, r.rng.IntN(r.cluster.Len())}, nil
		}
	}
	return link{}, errSkip
}

// toxic is a fault of one link for a while.
func (r *round) toxic(kind, direction string, from, to time.Duration, attributes map[string]int) (string, ending, error) {
	l, err := r.anyLink()
	if err != nil {
		return "", ending{}, err
	}
	d := between(r.rng, from, to)
	heal, err := r.net.poison(l, kind, direction, attributes)
	what := fmt.Sprintf("%v for %v %v", l, d.Round(time.Millisecond), attributes)
	return what, ending{d, func() string { heal(); return "" }}, err
}

func (r *round) delay() (string, ending, error) {
	ms := 20 + r.rng.IntN(600)
	return r.toxic("latency", "", time.Second, 8*time.Second, map[string]int{"latency": ms, "jitter": ms / 2})
}

func (r *round) narrow() (string, ending, error) {
	return r.toxic("bandwidth", "", time.Second, 6*time.Second, map[string]int{"rate": 5 + r.rng.IntN(60)}) // KB/s
}

func (r *round) reset() (string, ending, error) {
	return r.toxic("reset_peer", "", 300*time.Millisecond, 2*time.Second, map[string]int{"timeout": r.rng.IntN(100)})
}

func (r *round) sever() (string, ending, error) {
	direction := []string{"upstream", "downstream"}[r.rng.IntN(2)]
	return r.toxic("limit_data", direction, 500*time.Millisecond, 3*time.Second, map[string]int{"bytes": 1 + r.rng.IntN(20_000)})
}

func (r *round) halfOpen() (string, ending, error) {
	return r.toxic("timeout", "", time.Second, 15*time.Second, map[string]int{"timeout": 0})
}

// answersLost lets every request through and swallows the answers: what was done is not known.
func (r *round) answersLost() (string, ending, error) {
	return r.toxic("timeout", "downstream", 200*time.Millisecond, 6*time.Second, map[string]int{"timeout": 0})
}

func (r *round) refuse() (string, ending, error) {
	l, err := r.anyLink()
	if err != nil {
		return "", ending{}, err
	}
	d := between(r.rng, 500*time.Millisecond, 5*time.Second)
	r.net.down(l)
	return fmt.Sprintf("%v for %v", l, d.Round(time.Millisecond)), ending{d, func() string {
		if err := r.net.up(l); err != nil {
			return err.Error()
		}
		return ""
	}}, nil
}

// cutOff takes all brokers away from one instance for longer than its session: it goes on working, and does not know that it is dead.
func (r *round) cutOff() (string, ending, error) {
	l, err := r.anyLink()
	if err != nil {
		return "", ending{}, err
	}
	d := between(r.rng, 7*time.Second, 14*time.Second)
	var heals []func()
	for n := range r.cluster.Len() {
		heal, err := r.net.poison(link{l.slot, n}, "timeout", "", map[string]int{"timeout": 0})
		heals = append(heals, heal)
		if err != nil {
			return "", ending{0, func() string { return "" }}, err
		}
	}
	return fmt.Sprintf("ebb%d for %v", l.slot, d.Round(time.Millisecond)), ending{d, func() string {
		for _, heal := range heals {
			heal()
		}
		return fmt.Sprintf("ebb%d connected again", l.slot)
	}}, nil
}

func (r *round) fillDisk() (string, ending, error) { return r.full(32<<20, false) }
func (r *round) brimDisk() (string, ending, error) { return r.full(0, true) }

// full fills the disk of a slot that has its own. To the last byte, the process may die of it (SIGBUS): it is started again by whoever watches it.
func (r *round) full(leave int64, deadly bool) (string, ending, error) {
	for _, i := range r.rng.Perm(len(r.slots)) {
		s := r.slots[i]
		r.mu.Lock()
		taken := s.disk == nil || r.filled[i]
		if !taken {
			r.filled[i] = true
			if deadly {
				r.deadly[i] = true
			}
		}
		r.mu.Unlock()
		if taken || !s.running() {
			continue
		}
		d := between(r.rng, 2*time.Second, 12*time.Second)
		err := s.disk.fill(leave)
		return fmt.Sprintf("%v for %v, %d MB left", s, d.Round(time.Millisecond), leave>>20), ending{d, func() string {
			r.mu.Lock()
			r.filled[i] = false
			r.mu.Unlock()
			if err := s.disk.free(); err != nil {
				return err.Error()
			}
			return fmt.Sprintf("%v has room again", s)
		}}, err
	}
	return "", ending{}, errSkip
}
