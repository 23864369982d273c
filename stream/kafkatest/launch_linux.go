package kafkatest

import (
	"os/exec"
	"runtime"
	"syscall"
)

// launch starts cmd so that the kernel kills it when this process dies. done is closed when it has ended.
//
// PR_SET_PDEATHSIG follows the thread that forked, not the process: the goroutine keeps its thread until the child is gone.
func launch(cmd *exec.Cmd) (done chan struct{}, err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	done = make(chan struct{})
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(done)
	}()
	return done, <-started
}
