//go:build linux

package chaos

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// slot is the place of one ebb process: its configuration, its state directory, its log, and the process while there is one. What is
// done to a slot is a fault's, which holds busy meanwhile.
type slot struct {
	id     int
	bin    string
	config string
	env    []string
	dir    string // state directory
	log    string
	disk   *disk // nil where the directory lies on the disk of everybody

	mu    sync.Mutex
	busy  bool // a fault is at work on it
	proc  *exec.Cmd
	done  chan struct{}
	ended error // how the process ended, valid when done is closed
	began time.Time
	lives int
}

func (s *slot) String() string { return fmt.Sprintf("ebb%d", s.id) }

// take claims a slot for a fault: one that runs and that no other fault is at work on, or one that does not run at all.
func (s *slot) take(running bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy || s.alive() != running {
		return false
	}
	s.busy = true
	return true
}

func (s *slot) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = false
}

// alive says whether there is a process. mu is held.
func (s *slot) alive() bool {
	if s.proc == nil {
		return false
	}
	select {
	case <-s.done:
		return false
	default:
		return true
	}
}

func (s *slot) running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.alive()
}

// start begins a life of the process.
func (s *slot) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.alive() {
		return nil
	}
	out, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	s.lives++
	fmt.Fprintf(out, "=== life %d of %v\n", s.lives, s)
	cmd := exec.Command(s.bin, "run", "-c", s.config)
	cmd.Env = append(os.Environ(), s.env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	done := make(chan struct{})
	started := make(chan error)
	go lead(cmd, started, func(err error) {
		s.mu.Lock()
		s.ended = err
		s.mu.Unlock()
		close(done)
	})
	if err := <-started; err != nil {
		return err
	}
	s.proc, s.done, s.began = cmd, done, time.Now()
	return nil
}

// signal sends a signal to the process, if there is one.
func (s *slot) signal(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.alive() {
		return errGone
	}
	return s.proc.Process.Signal(sig)
}

// kill is kill -9, and waits for the end.
func (s *slot) kill() {
	s.mu.Lock()
	done, alive := s.done, s.alive()
	if alive {
		_ = s.proc.Process.Kill()
	}
	s.mu.Unlock()
	if alive {
		<-done
	}
}

// patience with a process that is told to stop. Brokers may be away meanwhile, so it is more than a deployment would have.
const stopPatience = 40 * time.Second

// startPatience is within what time of its start a process may be ended by SIGTERM instead of ending itself: it has to be loaded first.
const startPatience = time.Second

// errGone: the process had ended before it was told to.
var errGone = errors.New("no process")

// stop is SIGTERM. It returns how long the process took, and an error if it did not end by itself, or not well.
func (s *slot) stop() (time.Duration, error) {
	if err := s.signal(syscall.SIGTERM); err != nil {
		return 0, errGone
	}
	began := time.Now()
	timer := time.NewTimer(stopPatience)
	defer timer.Stop()
	select {
	case <-s.done:
	case <-timer.C:
		_ = s.signal(syscall.SIGQUIT) // the log then shows where every goroutine stands
		select {
		case <-s.done:
		case <-time.After(5 * time.Second):
			s.kill()
		}
		return time.Since(began), fmt.Errorf("%v did not obey SIGTERM within %v", s, stopPatience)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil && began.Sub(s.began) > startPatience { // before that it may not have come to listening to signals
		return time.Since(began), fmt.Errorf("%v after SIGTERM: %w", s, s.ended)
	}
	return time.Since(began), nil
}

// exit is how the process ended, if it has.
func (s *slot) exit() (ended bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc != nil && !s.alive(), s.ended
}

// lastLines are the last lines of the log.
func (s *slot) lastLines(n int) string {
	b, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// crashed looks for the marks of a crash in the whole log.
func (s *slot) crashed() string {
	b, err := os.ReadFile(s.log)
	if err != nil {
		return ""
	}
	for _, mark := range []string{"panic: ", "fatal error: ", "DATA RACE"} {
		if i := bytes.Index(b, []byte(mark)); i >= 0 {
			return string(b[i:min(len(b), i+1500)])
		}
	}
	return ""
}

// wipe takes the local copy away. The directory itself stays: it may be a mount point.
func (s *slot) wipe() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == ballast {
			continue
		}
		err = errors.Join(err, os.RemoveAll(filepath.Join(s.dir, e.Name())))
	}
	return err
}
