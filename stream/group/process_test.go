package group_test

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ebb/stream/conn"
	"ebb/stream/group"
	"ebb/stream/kafkatest"
)

// The environment of a member that runs in a process of its own: this test binary again.
const (
	envBroker = "EBB_TEST_BROKER"
	envPrefix = "EBB_TEST_PREFIX"
	envMember = "EBB_TEST_MEMBER_FILE"
)

// quick makes crashes visible within seconds.
func quick(c *group.Config) {
	c.SessionTimeout, c.HeartbeatInterval = 3*time.Second, 300*time.Millisecond
	c.RebalanceTimeout, c.Drain = 4*time.Second, time.Second
}

// TestMemberProcess is no test of its own, but what the processes of TestProcesses run.
func TestMemberProcess(t *testing.T) {
	addr := os.Getenv(envBroker)
	if addr == "" {
		return
	}
	cl, err := conn.New(conn.Config{Brokers: []string{addr}})
	if err != nil {
		t.Fatal(err)
	}
	file, prefix := os.Getenv(envMember), os.Getenv(envPrefix)
	previous, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	cfg := group.Config{
		Cluster: cl, Group: prefix + "g", Topics: []string{prefix + "usage", prefix + "payments"}, Log: slog.New(slog.DiscardHandler),
		PreviousMember: string(previous), RememberMember: func(id string) error { return os.WriteFile(file, []byte(id), 0o600) },
	}
	quick(&cfg)
	if err := group.Run(context.Background(), cfg, &handler{who: "B", j: newJournal()}); err != nil {
		t.Fatal(err)
	}
}

// TestProcesses: a member that is killed, restarted at once, or frozen for longer than its session.
func TestProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for sessions to end")
	}
	b := kafkatest.Real(t)
	topics(t, b)
	file := filepath.Join(t.TempDir(), "member")
	launch := func() *exec.Cmd {
		cmd := exec.Command(os.Args[0], "-test.run=^TestMemberProcess$")
		cmd.Env = append(os.Environ(), envBroker+"="+b.Addrs[0], envPrefix+"="+strings.TrimSuffix(b.Name("x"), "x"), envMember+"="+file)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd
	}
	signal := func(cmd *exec.Cmd, s syscall.Signal) {
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	j := newJournal()
	start(t, b, &handler{who: "A", j: j}, quick)
	j.await(t, "A has all", holds(map[string]int{"A": 6}))

	cmd := launch()
	shared := j.await(t, "A shares with B", holds(map[string]int{"A": 3}))["A"]

	kafkatest.Eventually(t, "B has stored its member id", func() error { _, err := os.Stat(file); return err })
	signal(cmd, syscall.SIGKILL)
	_ = cmd.Wait()
	began := time.Now()
	cmd = launch()
	again := j.await(t, "B is back in a new generation", func(held map[string][]int32) bool {
		j.mu.Lock()
		defer j.mu.Unlock()
		return len(held["A"]) == 3 && j.now["A"].ID > shared.ID
	})["A"]
	t.Logf("killed and restarted: a new generation after %v", time.Since(began))
	for i, p := range again.Partitions {
		if p != shared.Partitions[i] {
			t.Errorf("A had %v and has %v: nothing should have moved", shared.Partitions, again.Partitions)
			break
		}
	}

	signal(cmd, syscall.SIGSTOP)
	j.await(t, "A takes over from the frozen B", holds(map[string]int{"A": 6}))
	signal(cmd, syscall.SIGCONT)
	j.await(t, "B comes back", holds(map[string]int{"A": 3}))

	signal(cmd, syscall.SIGKILL)
	_ = cmd.Wait()
	j.await(t, "A takes over from the dead B", holds(map[string]int{"A": 6}))
}
