package admin

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/describegroups"
	"github.com/segmentio/kafka-go/protocol/findcoordinator"

	"ebb/stream/conn"
)

// Check finds everything about the topics and rights that would keep ebb from running or cost data. The error is that the
// cluster cannot be asked at all; it says why and what to do.
func Check(ctx context.Context, c *conn.Cluster, spec Spec) ([]Problem, error) {
	return check(ctx, c, &spec, false)
}

// check is Check; creating says that ebb's own topics were to be created just now, so that no problem need advise it.
func check(ctx context.Context, c *conn.Cluster, spec *Spec, creating bool) ([]Problem, error) {
	s, err := look(ctx, c, spec)
	if err != nil {
		return nil, err
	}
	k := &checker{spec: spec, seen: s, bootstrap: strings.Join(c.Brokers(), ","), creating: creating}
	k.feeds()
	for _, o := range spec.own() {
		k.own(o)
	}
	k.members(ctx, c)
	slices.SortStableFunc(k.problems, func(a, b Problem) int { return cmp.Compare(a.Severity, b.Severity) })
	return k.problems, nil
}

// checker collects problems.
type checker struct {
	spec      *Spec
	seen      *seen
	bootstrap string
	creating  bool // missing topics of ebb's own were to be created
	problems  []Problem
}

func (k *checker) add(s Severity, where, what, mend string) {
	k.problems = append(k.problems, Problem{s, where, what, mend})
}

func (k *checker) feeds() {
	for _, f := range k.spec.Feeds {
		t := k.seen.topics[f.Topic]
		where := "topic " + f.Topic
		if !t.exists() {
			k.missingFeed(f, t)
			continue
		}
		k.allowed(t, where, "topic", f.Topic, read, describe)
		k.led(t, where)
		k.feedSettings(f, t, where)
	}
	k.partitionCounts()
}

func (k *checker) missingFeed(f Feed, t *found) {
	where := "topic " + f.Topic
	if denied(t.err) {
		k.add(Error, where, "may not be read", k.grant("topic", f.Topic, read, describe))
		return
	}
	create := "create it"
	if n := k.seen.feedPartitions(k.spec); n > 0 && !f.Rerouted {
		create += fmt.Sprintf(" with %d partitions, as the other feeds have them", n)
	}
	mend := create + ", or correct feeds." + f.Role + ".topic"
	near := similar(f.Topic, k.seen.others)
	if near != "" {
		mend = "did you mean " + near + "? Correct feeds." + f.Role + ".topic"
	}
	switch {
	case f.Role != controlRole || k.creating:
	case k.spec.CreatedByRun:
		k.add(Warning, where, "does not exist yet", "ebb run creates it (topics.create), or "+k.spec.createCommand())
		return
	case near != "":
		mend += ", or " + k.spec.createCommand()
	default:
		mend = k.spec.createCommand() + ", or correct feeds." + f.Role + ".topic"
	}
	k.add(Error, where, "does not exist", mend)
}

// feedSettings warns of a feed that forgets records which ebb has not read yet.
func (k *checker) feedSettings(f Feed, t *found, where string) {
	policy := t.settings["cleanup.policy"]
	if strings.Contains(policy, "compact") && f.Role != "customers" {
		k.add(
			Warning, where, "is compacted: Kafka drops all but the newest record of each customer, read or not",
			k.alter(f.Topic, "cleanup.policy=delete"),
		)
	}
	if ms, ok := t.number("retention.ms"); ok && ms >= 0 && ms < day.Milliseconds() && strings.Contains(policy, "delete") {
		k.add(
			Warning, where, fmt.Sprintf("keeps its records for %d minutes only: what ebb misses longer than that is lost", ms/60_000),
			k.alter(f.Topic, "retention.ms="+millis(7*day)),
		)
	}
}

// partitionCounts: partition p of every feed has to hold the same customers.
func (k *checker) partitionCounts() {
	counts := map[int][]string{}
	for _, f := range k.spec.Feeds {
		if t := k.seen.topics[f.Topic]; t.exists() && !f.Rerouted {
			n := len(t.partitions)
			counts[n] = append(counts[n], f.Topic)
		}
	}
	if len(counts) < 2 {
		return
	}
	var parts []string
	for n, topics := range counts {
		parts = append(parts, fmt.Sprintf("%s: %d", strings.Join(topics, ", "), n))
	}
	slices.Sort(parts)
	k.add(
		Error, "feeds", "have different partition counts ("+strings.Join(parts, "; ")+"), so that a customer's records lie in different partitions",
		"copy the odd ones into topics of the same count, keyed by customer id and written by the same partitioner, or set reroute: true for their feeds; adding partitions to a topic in use moves customers",
	)
}

// feedPartitions is the partition count that the feeds which exist agree on, 0 if there is none.
func (s *seen) feedPartitions(spec *Spec) int {
	n := 0
	for _, f := range spec.Feeds {
		t := s.topics[f.Topic]
		switch {
		case f.Rerouted || !t.exists():
			continue
		case n != 0 && n != len(t.partitions):
			return 0
		}
		n = len(t.partitions)
	}
	return n
}

func (k *checker) own(o own) {
	t, where := k.seen.topics[o.topic], "topic "+o.topic
	if !t.exists() {
		if denied(t.err) {
			k.add(Error, where, "may not be seen", k.grant("topic", o.topic, k.needs(o)...))
			return
		}
		switch {
		case k.creating: // what kept it from being made is told once for all of them
			return
		case k.spec.CreatedByRun:
			k.add(Warning, where, "does not exist yet", "ebb run creates it (topics.create), or "+k.spec.createCommand())
			return
		}
		k.add(Error, where, "does not exist", k.spec.createCommand()+", or set topics.create: true")
		return
	}
	k.allowed(t, where, "topic", o.topic, k.needs(o)...)
	k.led(t, where)
	k.durable(t, o, where)
	if n := k.seen.feedPartitions(k.spec); o.asFeeds && n > 0 && len(t.partitions) != n {
		mend := "name an unused topic in " + o.key + " and run " + k.spec.createCommand()
		if o.topic == k.spec.Changelog && len(t.partitions) < n {
			mend = fmt.Sprintf("stop all instances and run %s: it moves each customer to the partition where his records come from now on", k.spec.command("ebb state grow"))
		}
		k.add(Error, where, fmt.Sprintf("has %d partitions, the feeds have %d", len(t.partitions), n), mend)
	}
	if o.single && len(t.partitions) > 1 {
		k.add(
			Error, where, fmt.Sprintf("has %d partitions, it must have one", len(t.partitions)),
			"name an unused topic in "+o.key+" and run "+k.spec.createCommand(),
		)
	}
	if t.settings == nil {
		k.add(Warning, where, "its settings may not be read, so they were not checked", k.grant("topic", o.topic, describeConfigs))
		return
	}
	k.cleanup(t, o, where)
	if n, ok := t.number("max.message.bytes"); ok && n < int64(o.bytes) {
		k.add(
			Error, where, fmt.Sprintf("takes batches of at most %d bytes, ebb writes up to %d", n, o.bytes),
			k.alter(o.topic, "max.message.bytes="+strconv.Itoa(max(o.bytes, defaultMaxMessage))),
		)
	}
}

func (k *checker) needs(o own) []right {
	if o.reads {
		return []right{read, write, describe}
	}
	return []right{write, describe}
}

func (k *checker) cleanup(t *found, o own, where string) {
	policy := t.settings["cleanup.policy"]
	switch {
	case policy == "":
	case o.compact && policy != "compact":
		k.add(
			Error, where, "has cleanup.policy "+policy+": records that are still valid would be deleted by age",
			k.alter(o.topic, "cleanup.policy=compact"),
		)
	case !o.compact && strings.Contains(policy, "compact"):
		k.add(
			Error, where, "is compacted: all but the newest record of a key would be dropped",
			k.alter(o.topic, "cleanup.policy=delete"),
		)
	}
	if ms, ok := t.number("delete.retention.ms"); ok && o.compact && ms < day.Milliseconds() {
		k.add(
			Warning, where, fmt.Sprintf("drops tombstones after %d minutes: a copy that is away longer keeps what was removed", ms/60_000),
			k.alter(o.topic, "delete.retention.ms="+millis(7*day)),
		)
	}
}

// led reports partitions that nobody serves.
func (k *checker) led(t *found, where string) {
	var without []string
	for _, p := range t.partitions {
		if p.leader < 0 {
			without = append(without, strconv.Itoa(int(p.id)))
		}
	}
	if without != nil {
		k.add(Error, where, "partition "+strings.Join(without, ", ")+" has no leader", "bring the brokers back that hold its replicas")
	}
}

// durable reports how few losses the topic survives.
func (k *checker) durable(t *found, o own, where string) {
	if len(t.partitions) == 0 {
		return
	}
	replicas, insync := t.partitions[0].replicas, t.partitions[0].insync
	for _, p := range t.partitions {
		replicas, insync = min(replicas, p.replicas), min(insync, p.insync)
	}
	if replicas == 1 && k.seen.brokers > 1 {
		k.add(
			Warning, where, fmt.Sprintf("has one replica on a cluster of %d brokers: it is lost with its broker", k.seen.brokers),
			"raise it with kafka-reassign-partitions.sh, or delete it while it is new and create it with topics.replication_factor: 3",
		)
	}
	need, ok := t.number("min.insync.replicas")
	switch {
	case !ok:
	case int64(insync) < need && int64(replicas) >= need: // nothing is wrong with the topic: to be waited for, as while ebb runs
		k.add(
			Warning, where, fmt.Sprintf("has %d in-sync replicas and needs %d to be written: nothing is written to it for now", insync, need),
			"bring the missing brokers back",
		)
	case int64(insync) < need:
		k.add(
			Error, where, fmt.Sprintf("has %d in-sync replicas and needs %d to be written", insync, need),
			"bring the missing brokers back, or "+k.alter(o.topic, "min.insync.replicas="+strconv.Itoa(insync)),
		)
	case replicas > 1 && int64(replicas) == need:
		k.add(
			Warning, where, fmt.Sprintf("needs all of its %d replicas: one broker away and nothing is written", replicas),
			k.alter(o.topic, "min.insync.replicas="+strconv.Itoa(replicas-1)),
		)
	case replicas >= 3 && need < 2:
		k.add(
			Warning, where, "takes a write that one of its replicas has: it can be lost with that broker",
			k.alter(o.topic, "min.insync.replicas=2"),
		)
	}
}

func (k *checker) allowed(t *found, where, kind, name string, needed ...right) {
	var missing []right
	for _, r := range needed {
		if !t.rights.has(r) {
			missing = append(missing, r)
		}
	}
	if missing != nil {
		k.add(Error, where, "the login lacks the right to "+words(missing), k.grant(kind, name, missing...))
	}
}

// members asks whether the login may join the group and use the transactional ids.
func (k *checker) members(ctx context.Context, c *conn.Cluster) {
	if k.spec.Group != "" {
		k.group(ctx, c)
	}
	if k.spec.TransactionalID == "" {
		return
	}
	_, err := coordinator(ctx, c, k.spec.TransactionalID, 1)
	if denied(err) {
		k.add(
			Error, "transactional id "+k.spec.TransactionalID, "the login lacks the right to use it",
			k.acl("--operation Write --operation Describe --transactional-id "+k.spec.Group+" --resource-pattern-type prefixed"),
		)
	}
}

func (k *checker) group(ctx context.Context, c *conn.Cluster) {
	where := "group " + k.spec.Group
	addr, err := coordinator(ctx, c, k.spec.Group, 0)
	if denied(err) {
		k.add(Error, where, "the login lacks the right to join it", k.grant("group", k.spec.Group, read, describe))
	}
	if err != nil {
		return // The coordinator is being elected; whether it comes is not a matter of topics or rights.
	}
	m, err := c.RoundTrip(ctx, addr, &describegroups.Request{Groups: []string{k.spec.Group}, IncludeAuthorizedOperations: true})
	if err != nil {
		return
	}
	for _, g := range m.(*describegroups.Response).Groups {
		if g.ErrorCode == int16(kafka.GroupAuthorizationFailed) || !rights(g.AuthorizedOperations).has(read) {
			k.add(Error, where, "the login lacks the right to join it", k.grant("group", k.spec.Group, read, describe))
		}
	}
}

func coordinator(ctx context.Context, c *conn.Cluster, key string, kind int8) (string, error) {
	m, err := ask(ctx, c, &findcoordinator.Request{Key: key, KeyType: kind})
	if err != nil {
		return "", err
	}
	r := m.(*findcoordinator.Response)
	return net.JoinHostPort(r.Host, strconv.Itoa(int(r.Port))), conn.CodeError(r.ErrorCode)
}

// alter is the command that changes settings of a topic.
func (k *checker) alter(topic, settings string) string {
	return fmt.Sprintf("kafka-configs.sh --bootstrap-server %s --alter --entity-type topics --entity-name %s --add-config %s", k.bootstrap, topic, settings)
}

// grant is the command that gives rights.
func (k *checker) grant(kind, name string, list ...right) string {
	var ops []string
	for _, r := range list {
		ops = append(ops, "--operation "+r.String())
	}
	return k.acl(strings.Join(ops, " ") + " --" + kind + " " + name)
}

func (k *checker) acl(what string) string {
	return fmt.Sprintf("kafka-acls.sh --bootstrap-server %s --add --allow-principal User:%s %s", k.bootstrap, cmp.Or(k.spec.User, "NAME"), what)
}

func words(list []right) string {
	s := make([]string, len(list))
	for i, r := range list {
		s[i] = r.String()
	}
	return strings.Join(s, " and ")
}

// similar is the one existing name that contains, or is contained in, the missing one, or differs from it only in case and
// separators.
func similar(name string, others []string) string {
	plain := func(s string) string {
		return strings.NewReplacer("-", "", "_", "", ".", "").Replace(strings.ToLower(s))
	}
	want, best := plain(name), ""
	for _, o := range others {
		have := plain(o)
		if have == want {
			return o
		}
		if best == "" && want != "" && have != "" && (strings.Contains(have, want) || strings.Contains(want, have)) {
			best = o
		}
	}
	return best
}
