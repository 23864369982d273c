//go:build !linux

package kafkatest

import (
	"fmt"
	"os/exec"
)

// launch refuses: without PR_SET_PDEATHSIG a killed test binary would leave its broker behind.
func launch(*exec.Cmd) (done chan struct{}, err error) {
	return nil, fmt.Errorf("%w: it is started on Linux only; set KAFKA_BROKERS", errMissing)
}
