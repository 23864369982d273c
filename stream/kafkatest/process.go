package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// process is one broker's JVM and its directory. Its methods are for one goroutine at a time.
type process struct {
	in    *installation
	dir   string
	jvm   []string          // further options of the JVM
	extra map[string]string // further broker properties
	ports ports
	cmd   *exec.Cmd
	done  chan struct{} // closed when the JVM has ended
}

// start launches the JVM, and waits until it takes topics and both coordinators answer. Ports that another process took are given up for others.
func (p *process) start() error {
	var err error
	for range 3 {
		if p.ports, err = pickPorts(); err != nil {
			return err
		}
		if err = p.restart(); err == nil {
			return nil
		}
		p.kill()
	}
	return err
}

// restart launches the JVM on the ports it had, and waits until it serves.
func (p *process) restart() error {
	if err := p.launch(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	return p.await(ctx)
}

// launch starts the JVM on the ports it had.
func (p *process) launch() error {
	if err := writeProperties(p.dir, p.ports, p.extra); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(p.dir, "broker.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"}
	if len(p.jvm) > 0 {
		args = append(args, p.jvm...)
	} else {
		args = append(args, "-XX:SharedArchiveFile="+p.in.archive)
	}
	args = append(args, "-cp", p.in.classpath, "kafka.Kafka", filepath.Join(p.dir, "server.properties"))
	cmd := exec.Command(p.in.java, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, log, log
	if p.done, err = launch(cmd); err != nil {
		return err
	}
	p.cmd = cmd
	return nil
}

// await waits until the broker serves. Its error holds the end of the broker's log.
func (p *process) await(ctx context.Context) error {
	if err := p.ready(ctx); err != nil {
		b, _ := os.ReadFile(filepath.Join(p.dir, "broker.log"))
		return fmt.Errorf("the broker did not become ready: %w\n%s", err, tail(b))
	}
	return nil
}

func (p *process) addr() string { return fmt.Sprintf("127.0.0.1:%d", p.ports.plain) }

func (p *process) ready(ctx context.Context) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.addr()), kgo.MetadataMinAge(20*time.Millisecond), kgo.RequestRetries(0), kgo.DisableClientMetrics())
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := p.done
	go func() {
		select {
		case <-done:
			cancel(errors.New("the process ended"))
		case <-ctx.Done():
		}
	}()
	err = Poll(ctx, func() error {
		for kind := range int8(2) { // the group coordinator, then the transaction coordinator: each makes its internal topic
			if err := coordinatorReady(ctx, cl, kind); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	return nil
}

func coordinatorReady(ctx context.Context, cl *kgo.Client, kind int8) error {
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorType, req.CoordinatorKey, req.CoordinatorKeys = kind, "ready", []string{"ready"}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return err
	}
	for _, c := range resp.Coordinators {
		if err := kerr.ErrorForCode(c.ErrorCode); err != nil {
			return err
		}
	}
	if kind == 0 {
		describe := kmsg.NewPtrDescribeGroupsRequest()
		describe.Groups = []string{"ready"}
		_, err = describe.RequestWith(ctx, cl)
		return err
	}
	initReq := kmsg.NewPtrInitProducerIDRequest()
	initReq.TransactionalID, initReq.TransactionTimeoutMillis = kmsg.StringPtr("ready"), 10000
	initReq.ProducerID, initReq.ProducerEpoch = -1, -1
	initResp, err := initReq.RequestWith(ctx, cl)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(initResp.ErrorCode)
}

func (p *process) signal(s syscall.Signal) error {
	if p.cmd == nil {
		return errors.New("the broker is not running")
	}
	return p.cmd.Process.Signal(s)
}

// kill ends the JVM at once and waits for its end.
func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.done
	p.cmd = nil
}

// terminate asks the JVM to stop, and waits for its clean end.
func (p *process) terminate() error {
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	timer := time.NewTimer(2 * patience)
	defer timer.Stop()
	select {
	case <-p.done:
		p.cmd = nil
		return nil
	case <-timer.C:
		p.kill()
		return errors.New("the broker did not stop in time and was killed")
	}
}
