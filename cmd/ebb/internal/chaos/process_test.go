//go:build linux

package chaos

import (
	"os/exec"
	"runtime"
)

// lead starts a command and waits for its end, on one thread of its own: PR_SET_PDEATHSIG follows the thread that forked.
func lead(cmd *exec.Cmd, started chan<- error, ended func(error)) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Start()
	started <- err
	if err == nil {
		ended(cmd.Wait())
	}
}
