//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fleet is one to three processes of one side that share a group, each with a state directory of its own.
type fleet struct {
	*bench
	topics
	side     side
	group    string
	standbys int
	runs     [3]*engine
}

// side is ebb, or the job on Kafka Streams.
type side interface {
	name() string
	// start runs instance i of a fleet.
	start(ctx context.Context, f *fleet, i int) (*engine, error)
	// ready waits until the instance says that it is at work.
	ready(ctx context.Context, e *engine) error
	// complete brings a fleet that lost an instance to three again.
	complete(ctx context.Context, f *fleet) error
	// changelog is the topic of the customers' states.
	changelog(group string) string
	// instance tells which instance a member of the group is.
	instance(m *kmsg.DescribeGroupsResponseGroupMember) string
}

// newFleet has a new group, and no process.
func (b *bench) newFleet(s side, t topics, standbys int) *fleet {
	return &fleet{bench: b, topics: t, side: s, standbys: standbys, group: fmt.Sprintf("ebb_bench_%s_%d", s.name(), b.now().UnixMilli())}
}

func (f *fleet) dir(i int) string {
	return filepath.Join(f.tmp, fmt.Sprintf("state-%s-%d", f.group, i))
}

// start runs instance i, until it is stopped or the fleet is closed.
func (f *fleet) start(ctx context.Context, i int) (err error) {
	f.runs[i], err = f.side.start(context.WithoutCancel(ctx), f, i) // the process outlives the case that starts it
	return err
}

func (f *fleet) stop(i int, sig syscall.Signal) (usage, error) { return f.runs[i].stop(sig) }

// wipe removes the local state of instance i.
func (f *fleet) wipe(i int) error { return os.RemoveAll(f.dir(i)) }

// close kills what runs and removes what is left behind.
func (f *fleet) close() {
	for _, e := range f.runs {
		e.kill()
	}
	if f.keep {
		return
	}
	for i := range f.runs {
		if err := f.wipe(i); err != nil {
			f.log.Warn("the state stays", "error", err)
		}
	}
	if err := f.generate(context.Background(), nil, "-prefix", f.group, "-delete"); err != nil { // the prefix that is given last counts
		f.log.Warn("the internal topics stay", "error", err)
	}
}

// drain waits until the group has committed everything that the topics hold.
func (f *fleet) drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	ends, _, err := f.ends(ctx, f.prefix)
	if err != nil {
		return err
	}
	return f.awaitCommitted(ctx, f.runs[0], f.group, ends)
}

// owned asks the broker which partitions each instance has.
func (f *fleet) owned(ctx context.Context) (map[string][]int32, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(f.brokers, ",")...), kgo.DisableClientMetrics())
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups = []string{f.group}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, err
	}
	owned := map[string][]int32{}
	for _, g := range resp.Groups {
		for i := range g.Members {
			var a kmsg.ConsumerMemberAssignment
			if err := a.ReadFrom(g.Members[i].MemberAssignment); err != nil {
				continue // the group is being divided
			}
			name := f.side.instance(&g.Members[i])
			for _, t := range a.Topics {
				if t.Topic == f.prefix+"usage" {
					owned[name] = append(owned[name], t.Partitions...)
				}
			}
		}
	}
	return owned, nil
}

// balance waits until the partitions are shared out evenly among all three.
func (f *fleet) balance(ctx context.Context) error {
	const limit = 5 * time.Minute
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		owned, err := f.owned(ctx)
		if err == nil && even(owned, f.partitions) {
			return nil
		}
		for i, e := range f.runs {
			select {
			case <-e.ended:
				return fmt.Errorf("instance %s ended: %w; see %s", member(i), e.err, e.log)
			default:
			}
		}
		if wait := pause(ctx, 200*time.Millisecond); wait != nil {
			return errors.Join(fmt.Errorf("the partitions are not shared out evenly after %v: %v", limit, owned), err)
		}
	}
}

// even says whether three instances have all partitions between them, none two more than another.
func even(owned map[string][]int32, partitions int) bool {
	most, least, all := 0, partitions, 0
	for _, p := range owned {
		most, least, all = max(most, len(p)), min(least, len(p)), all+len(p)
	}
	return len(owned) == len(fleet{}.runs) && all == partitions && most-least <= 1
}

// victim is the instance with the most partitions, the last of these.
func (f *fleet) victim(ctx context.Context) (int, error) {
	owned, err := f.owned(ctx)
	if err != nil {
		return 0, err
	}
	best := 0
	for i := range f.runs {
		if len(owned[member(i)]) >= len(owned[member(best)]) {
			best = i
		}
	}
	if len(owned[member(best)]) == 0 {
		return 0, fmt.Errorf("no instance has a partition: %v", owned)
	}
	return best, nil
}

// member is what an instance is called in its group.
func member(i int) string { return "i" + strconv.Itoa(i+1) }

// count reads a topic once and counts its committed records.
func (f *fleet) count(ctx context.Context, topic string) (n int64, err error) {
	ends, total, err := f.endsOf(ctx, topic)
	if err != nil || total == 0 {
		return 0, err
	}
	maps.DeleteFunc(ends, func(_ int32, end int64) bool { return end == 0 })
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(f.brokers, ",")...), kgo.DisableClientMetrics(), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for len(ends) > 0 {
		found := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return n, fmt.Errorf("counting the records of %s: %w", topic, ctx.Err())
		}
		found.EachRecord(func(r *kgo.Record) {
			end, ok := ends[r.Partition]
			if !ok || r.Offset >= end {
				return
			}
			if !r.Attrs.IsControl() {
				n++
			}
			if r.Offset+1 >= end {
				delete(ends, r.Partition)
			}
		})
	}
	return n, nil
}

// brokerSetting asks a broker for one of its settings.
func brokerSetting(ctx context.Context, brokers, name string) (string, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(brokers, ",")...), kgo.DisableClientMetrics())
	if err != nil {
		return "", err
	}
	defer cl.Close()
	meta, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, cl)
	if err != nil || len(meta.Brokers) == 0 {
		return "", fmt.Errorf("describe the cluster: %w", err)
	}
	ask := kmsg.NewDescribeConfigsRequestResource()
	ask.ResourceType, ask.ResourceName, ask.ConfigNames = kmsg.ConfigResourceTypeBroker, strconv.Itoa(int(meta.Brokers[0].NodeID)), []string{name}
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.Resources = append(req.Resources, ask)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return "", fmt.Errorf("describe the broker: %w", err)
	}
	for _, r := range resp.Resources {
		for _, c := range r.Configs {
			if c.Value != nil {
				return *c.Value, nil
			}
		}
	}
	return "", fmt.Errorf("the broker does not tell its %s", name)
}

// ebbSide is ebb.
type ebbSide struct{}

func (ebbSide) name() string { return "ebb" }

func (ebbSide) start(ctx context.Context, f *fleet, i int) (*engine, error) {
	return f.bench.start(ctx, ebbRun{group: f.group, dir: f.dir(i), prefix: f.prefix, client: member(i), standbys: f.standbys, session: f.session})
}

func (ebbSide) ready(ctx context.Context, e *engine) error {
	return e.await(ctx, 20*time.Millisecond, "ebb is ready", func(series) bool { return e.ready(ctx) })
}

// complete starts what is missing, on the state that it left.
func (ebbSide) complete(ctx context.Context, f *fleet) error {
	for i, e := range f.runs {
		if e != nil {
			continue
		}
		if err := f.start(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

func (ebbSide) changelog(group string) string { return group + "-changelog" }

func (ebbSide) instance(m *kmsg.DescribeGroupsResponseGroupMember) string { return m.ClientID }

// streamsSide is the job on Kafka Streams: exactly once, static membership, and its default commit of 100 ms.
type streamsSide struct{}

func (streamsSide) name() string { return "streams" }

func (streamsSide) start(ctx context.Context, f *fleet, i int) (*engine, error) {
	args := []string{"-Xms" + f.peerHeap, "-Xmx" + f.peerHeap, "-XX:+UseParallelGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"}
	for name, value := range map[string]any{
		"app": f.group, "mode": "eos", "threads": 1, "live": true, "linger": 0, "instance": member(i), "session": f.session.Milliseconds(), "standby": f.standbys,
		"prefix": f.prefix, "brokers": f.brokers, "state": f.dir(i), "partitions": f.partitions,
	} {
		args = append(args, fmt.Sprintf("-Dbench.%s=%v", name, value))
	}
	slices.Sort(args[4:])
	jars := filepath.Join(f.peers, "kstreams", "target")
	args = append(args, "-cp", filepath.Join(jars, "kstreams-1.jar")+":"+filepath.Join(jars, "lib", "*"), "bench.Bench")
	return f.launch(exec.CommandContext(ctx, "java", args...), fmt.Sprintf("%s-%s-%d", f.group, member(i), f.now().UnixMilli()))
}

// ready waits for the line that the job prints when it has restored its states and runs.
func (streamsSide) ready(ctx context.Context, e *engine) error {
	for {
		body, err := os.ReadFile(e.log)
		if err == nil && slices.ContainsFunc(bytes.Split(body, []byte("\n")), isRunning) {
			return nil
		}
		select {
		case <-e.ended:
			return fmt.Errorf("the job ended before it ran: %w; see %s", e.err, e.log)
		default:
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

func isRunning(line []byte) bool {
	var milestone struct{ Event string }
	return json.Unmarshal(line, &milestone) == nil && milestone.Event == "running"
}

// complete starts all three anew without their states. Kafka Streams gives an instance that comes back on what it left its tasks
// only at the next of its probing rebalances, which are ten minutes apart, two tasks at a time.
func (streamsSide) complete(ctx context.Context, f *fleet) error {
	for i := range f.runs {
		f.runs[i].kill()
		if err := f.wipe(i); err != nil {
			return err
		}
	}
	for i := range f.runs {
		if err := f.start(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

func (streamsSide) changelog(group string) string { return group + "-states-changelog" }

// Kafka Streams adds the number of the thread to the instance id.
func (streamsSide) instance(m *kmsg.DescribeGroupsResponseGroupMember) string {
	if m.InstanceID == nil {
		return m.MemberID
	}
	name, _, _ := strings.Cut(*m.InstanceID, "-")
	return name
}
