package admin_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"ebb/stream/admin"
	"ebb/stream/conn"
	"ebb/stream/kafkatest"
)

const day = 24 * time.Hour

func spec(b *kafkatest.Broker) admin.Spec {
	return admin.Spec{
		Group:           b.Name("ebb"),
		TransactionalID: b.Name("ebb") + "-0",
		Feeds: []admin.Feed{
			{Role: "usage", Topic: b.Name("usage")},
			{Role: "payments", Topic: b.Name("payments")},
		},
		Alerts:              b.Name("churn-alerts"),
		OpenAlerts:          b.Name("churn-alerts-open"),
		Operations:          b.Name("ebb-operations"),
		Changelog:           b.Name("ebb-changelog"),
		DeadLetters:         b.Name("ebb-dlq"),
		Facts:               b.Name("ebb-facts"),
		FactsChangelog:      b.Name("ebb-facts-changelog"),
		ReplicationFactor:   1,
		AlertRetention:      365 * day,
		DeadLetterRetention: 30 * day,
	}
}

func connect(t *testing.T, b *kafkatest.Broker) *conn.Cluster {
	t.Helper()
	cfg := conn.Config{Brokers: b.Addrs, Dial: b.Dial, TLS: b.TLS}
	if b.Login != nil {
		cfg.SASL = &conn.SASL{Mechanism: strings.ToLower(b.Login.Mechanism), Username: b.Login.Username, Password: b.Login.Password}
	}
	c, err := conn.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func feeds(t *testing.T, b *kafkatest.Broker, usage, payments int32) {
	t.Helper()
	b.CreateTopic(t, b.Name("usage"), usage, nil)
	b.CreateTopic(t, b.Name("payments"), payments, nil)
}

func check(t *testing.T, b *kafkatest.Broker, s admin.Spec) []admin.Problem {
	t.Helper()
	p, err := admin.Check(t.Context(), connect(t, b), s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// brokers runs a test on the embedded broker and on a real one.
func brokers(t *testing.T, f func(t *testing.T, b *kafkatest.Broker)) {
	t.Run("embedded", func(t *testing.T) { f(t, kafkatest.Fake(t, kafkatest.Options{})) })
	t.Run("real", func(t *testing.T) { f(t, kafkatest.Real(t)) })
}

func TestCreatedTopicsAreFitForEbb(t *testing.T) {
	brokers(t, func(t *testing.T, b *kafkatest.Broker) {
		feeds(t, b, 3, 3)
		s := spec(b)
		created, problems, err := admin.Create(t.Context(), connect(t, b), s)
		if err != nil || len(problems) != 0 {
			t.Fatalf("create: %v, %v", problems, err)
		}
		want := []string{s.Changelog, s.Alerts, s.OpenAlerts, s.Operations, s.Facts, s.FactsChangelog, s.DeadLetters}
		if !slices.Equal(created, want) {
			t.Errorf("created %v, want %v", created, want)
		}
		for topic, settings := range map[string]map[string]string{
			s.Changelog:      {"cleanup.policy": "compact", "delete.retention.ms": "604800000"},
			s.OpenAlerts:     {"cleanup.policy": "compact"},
			s.Alerts:         {"cleanup.policy": "delete", "retention.ms": "31536000000", "message.timestamp.type": "LogAppendTime"},
			s.DeadLetters:    {"cleanup.policy": "delete", "retention.ms": "2592000000", "max.message.bytes": "1114112"},
			s.Operations:     {"cleanup.policy": "delete"},
			s.Facts:          {"cleanup.policy": "delete", "retention.ms": "604800000"},
			s.FactsChangelog: {"cleanup.policy": "compact"},
		} {
			got := settingsOf(t, b, topic)
			for k, v := range settings {
				if got[k] != v {
					t.Errorf("%s: %s is %q, want %q", topic, k, got[k], v)
				}
			}
		}
		for topic, n := range map[string]int{s.Changelog: 3, s.Alerts: 3, s.OpenAlerts: 3, s.DeadLetters: 3, s.Operations: 1, s.Facts: 1, s.FactsChangelog: 1} {
			if got := partitionsOf(t, b, topic); got != n {
				t.Errorf("%s has %d partitions, want %d", topic, got, n)
			}
		}
		again, problems, err := admin.Create(t.Context(), connect(t, b), s)
		if again != nil || problems != nil || err != nil {
			t.Errorf("a second time there is nothing to do: %v %v %v", again, problems, err)
		}
	})
}

func TestATopicIsTunedWhereTheClusterAllowsIt(t *testing.T) {
	b := kafkatest.Real(t)
	feeds(t, b, 1, 1)
	s := spec(b)
	if _, problems, err := admin.Create(t.Context(), connect(t, b), s); err != nil || problems != nil {
		t.Fatal(problems, err)
	}
	got := settingsOf(t, b, s.Changelog)
	if got["segment.bytes"] != "67108864" || got["max.compaction.lag.ms"] != "86400000" || got["min.cleanable.dirty.ratio"] != "0.2" {
		t.Errorf("changelog: %v", got)
	}
}

func TestProblemsNameFaultAndMend(t *testing.T) {
	cases := []struct {
		rule   string
		before func(t *testing.T, b *kafkatest.Broker, s *admin.Spec) // after the topics were created
		where  string                                                 // without the test's prefix
		what   string
		mend   string
		severe admin.Severity
	}{
		{
			"a feed that does not exist, with the one that was probably meant",
			func(_ *testing.T, b *kafkatest.Broker, s *admin.Spec) { s.Feeds[0].Topic = b.Name("Usage") },
			"topic Usage", "does not exist", "did you mean usage? Correct feeds.usage.topic", admin.Error,
		},
		{
			"a feed that does not exist and resembles nothing",
			func(_ *testing.T, b *kafkatest.Broker, s *admin.Spec) { s.Feeds[0].Topic = b.Name("zzz") },
			"topic zzz", "does not exist", "create it with 2 partitions, as the other feeds have them, or correct feeds.usage.topic", admin.Error,
		},
		{
			"a topic of ebb's own that does not exist",
			func(_ *testing.T, b *kafkatest.Broker, s *admin.Spec) { s.Alerts = b.Name("none") },
			"topic none", "does not exist", "ebb topics create -c FILE, or set topics.create: true", admin.Error,
		},
		{
			"the same where ebb run creates it",
			func(_ *testing.T, b *kafkatest.Broker, s *admin.Spec) {
				s.Alerts, s.CreatedByRun = b.Name("none"), true
			},
			"topic none", "does not exist yet", "ebb run creates it (topics.create), or ebb topics create -c FILE", admin.Warning,
		},
		{
			"feeds of different partition counts",
			func(t *testing.T, b *kafkatest.Broker, s *admin.Spec) {
				b.CreateTopic(t, b.Name("calls"), 7, nil)
				s.Feeds = append(s.Feeds, admin.Feed{Role: "complaints", Topic: b.Name("calls")})
			},
			"feeds", "have different partition counts (calls: 7; usage, payments: 2)", "copy the odd ones into topics of the same count", admin.Error,
		},
		{
			"a changelog with another partition count than the feeds",
			func(t *testing.T, b *kafkatest.Broker, s *admin.Spec) {
				s.Changelog = b.Name("log")
				b.CreateTopic(t, s.Changelog, 5, map[string]string{"cleanup.policy": "compact"})
			},
			"topic log", "has 5 partitions, the feeds have 2", "name an unused topic in topics.changelog", admin.Error,
		},
		{
			"a changelog that is not compacted",
			func(t *testing.T, b *kafkatest.Broker, s *admin.Spec) {
				s.Changelog = b.Name("log")
				b.CreateTopic(t, s.Changelog, 2, nil)
			},
			"topic log", "has cleanup.policy delete", "--add-config cleanup.policy=compact", admin.Error,
		},
		{
			"a changelog that is compacted and deleted by age",
			func(t *testing.T, b *kafkatest.Broker, s *admin.Spec) {
				s.Changelog = b.Name("log")
				b.CreateTopic(t, s.Changelog, 2, map[string]string{"cleanup.policy": "compact,delete"})
			},
			"topic log", "has cleanup.policy compact,delete", "--add-config cleanup.policy=compact", admin.Error,
		},
		{
			"facts in more than one partition",
			func(t *testing.T, b *kafkatest.Broker, s *admin.Spec) {
				s.Facts = b.Name("told")
				b.CreateTopic(t, s.Facts, 2, nil)
			},
			"topic told", "has 2 partitions, it must have one", "name an unused topic in topics.facts", admin.Error,
		},
		{
			"an alert topic that is compacted",
			func(t *testing.T, b *kafkatest.Broker, s *admin.Spec) {
				s.Alerts = b.Name("steps")
				b.CreateTopic(t, s.Alerts, 2, map[string]string{"cleanup.policy": "compact"})
			},
			"topic steps", "is compacted", "--entity-name steps --add-config cleanup.policy=delete", admin.Error,
		},
		{
			"a topic that takes too small batches",
			func(t *testing.T, b *kafkatest.Broker, s *admin.Spec) {
				s.Alerts = b.Name("steps")
				b.CreateTopic(t, s.Alerts, 2, map[string]string{"max.message.bytes": "100000"})
			},
			"topic steps", "takes batches of at most 100000 bytes, ebb writes up to 1048588", "--add-config max.message.bytes=1048588", admin.Error,
		},
		{
			"a dead-letter topic that cannot take the largest record",
			func(_ *testing.T, _ *kafkatest.Broker, s *admin.Spec) { s.MaxRecordBytes = 4 << 20 },
			"topic ebb-dlq", "ebb writes up to 4259840", "--add-config max.message.bytes=4259840", admin.Error,
		},
		{
			"a feed that is compacted",
			func(t *testing.T, b *kafkatest.Broker, s *admin.Spec) {
				s.Feeds[1].Topic = b.Name("newest")
				b.CreateTopic(t, s.Feeds[1].Topic, 2, map[string]string{"cleanup.policy": "compact"})
			},
			"topic newest", "is compacted: Kafka drops all but the newest record of each customer", "--add-config cleanup.policy=delete", admin.Warning,
		},
		{
			"a feed that forgets within a day",
			func(t *testing.T, b *kafkatest.Broker, s *admin.Spec) {
				s.Feeds[1].Topic = b.Name("short")
				b.CreateTopic(t, s.Feeds[1].Topic, 2, map[string]string{"retention.ms": "3600000"})
			},
			"topic short", "keeps its records for 60 minutes only", "--add-config retention.ms=604800000", admin.Warning,
		},
		{
			"a compacted topic that forgets removals within a day",
			func(t *testing.T, b *kafkatest.Broker, s *admin.Spec) {
				s.OpenAlerts = b.Name("open")
				b.CreateTopic(t, s.OpenAlerts, 2, map[string]string{"cleanup.policy": "compact", "delete.retention.ms": "60000"})
			},
			"topic open", "drops tombstones after 1 minutes", "--add-config delete.retention.ms=604800000", admin.Warning,
		},
		{
			"a topic that too few replicas hold to be written",
			func(t *testing.T, b *kafkatest.Broker, s *admin.Spec) {
				s.Alerts = b.Name("steps")
				b.CreateTopic(t, s.Alerts, 2, map[string]string{"min.insync.replicas": "2"})
			},
			"topic steps", "has 1 in-sync replicas and needs 2 to be written", "min.insync.replicas=1", admin.Error,
		},
	}
	b := kafkatest.Fake(t, kafkatest.Options{})
	feeds(t, b, 2, 2)
	if _, problems, err := admin.Create(t.Context(), connect(t, b), spec(b)); err != nil || problems != nil {
		t.Fatal(problems, err)
	}
	for _, tc := range cases {
		t.Run(tc.rule, func(t *testing.T) {
			s := spec(b)
			own := *b // topics of the cases must not meet
			tc.before(t, &own, &s)
			t.Cleanup(func() { dropOthers(t, b) })
			got := check(t, b, s)
			if len(got) != 1 {
				t.Fatalf("want one problem, got %v", got)
			}
			p := plain(b, got[0])
			if p.Severity != tc.severe || p.Where != tc.where || !strings.Contains(p.What, tc.what) || !strings.Contains(p.Mend, tc.mend) {
				t.Errorf("got  %s\nwant %s: %s: %s; %s", p, tc.severe, tc.where, tc.what, tc.mend)
			}
		})
	}
}

// plain takes the test's prefix out.
func plain(b *kafkatest.Broker, p admin.Problem) admin.Problem {
	for _, s := range []*string{&p.Where, &p.What, &p.Mend} {
		*s = strings.ReplaceAll(*s, b.Name(""), "")
	}
	return p
}

func dropOthers(t *testing.T, b *kafkatest.Broker) {
	t.Helper()
	for _, n := range []string{"calls", "log", "steps", "newest", "short", "open"} {
		if b.Fake.TopicInfo(b.Name(n)) != nil {
			b.DeleteTopic(t, b.Name(n))
		}
	}
}

func TestReplicasAreWeighedOnALargerCluster(t *testing.T) {
	b := kafkatest.Fake(t, kafkatest.Options{Brokers: 3})
	feeds(t, b, 2, 2)
	s := spec(b)
	s.ReplicationFactor = 3
	if _, problems, err := admin.Create(t.Context(), connect(t, b), s); err != nil || problems != nil {
		t.Fatal(problems, err)
	}
	if got := settingsOf(t, b, s.Changelog)["min.insync.replicas"]; got != "2" {
		t.Errorf("with three replicas two have to hold a write, got %q", got)
	}
	s.ReplicationFactor = 1
	s.Alerts = b.Name("single")
	_, problems, err := admin.Create(t.Context(), connect(t, b), s)
	if err != nil || len(problems) != 1 || problems[0].Severity != admin.Warning || !strings.Contains(problems[0].What, "one replica on a cluster of 3 brokers") {
		t.Errorf("got %v %v", problems, err)
	}
}

func TestTooManyReplicasIsAProblemWithItsMend(t *testing.T) {
	b := kafkatest.Real(t)
	feeds(t, b, 1, 1)
	s := spec(b)
	s.ReplicationFactor = 3
	created, problems, err := admin.Create(t.Context(), connect(t, b), s)
	if err != nil || created != nil || len(problems) != 7 || !strings.Contains(problems[0].String(), "cannot have 3 replicas on a cluster of 1 brokers; set topics.replication_factor") {
		t.Errorf("got %v %v %v", created, problems, err)
	}
}

// TestATopicThatAnotherInstanceIsMakingIsAwaited: instances that start together for the first time each find the topics missing.
// Who comes second is told that a topic exists before the cluster's description of it says so.
func TestATopicThatAnotherInstanceIsMakingIsAwaited(t *testing.T) {
	b := kafkatest.Fake(t, kafkatest.Options{})
	feeds(t, b, 2, 2)
	s := spec(b)
	var told atomic.Bool
	b.Fake.ControlKey(int16(kmsg.CreateTopics), func(r kmsg.Request) (kmsg.Response, error, bool) {
		b.Fake.KeepControl()
		req := r.(*kmsg.CreateTopicsRequest)
		if req.Topics[0].Topic != s.DeadLetters || told.Swap(true) {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
		rt := kmsg.NewCreateTopicsResponseTopic()
		rt.Topic, rt.ErrorCode = s.DeadLetters, kerr.TopicAlreadyExists.Code
		resp.Topics = append(resp.Topics, rt)
		return resp, nil, true
	})
	other := make(chan struct{})
	time.AfterFunc(200*time.Millisecond, func() {
		defer close(other)
		b.CreateTopic(t, s.DeadLetters, 2, map[string]string{"cleanup.policy": "delete", "retention.ms": "2592000000", "max.message.bytes": "1114112"})
	})
	created, problems, err := admin.Create(t.Context(), connect(t, b), s)
	if err != nil || len(problems) != 0 || len(created) != 6 || slices.Contains(created, s.DeadLetters) {
		t.Errorf("got %v, %v, %v; want the six others made and no problems", created, problems, err)
	}
	<-other
}

// TestANewTopicThatSomeBrokersDoNotKnowYetIsAwaited: brokers learn of a topic one after the other.
func TestANewTopicThatSomeBrokersDoNotKnowYetIsAwaited(t *testing.T) {
	b := kafkatest.Fake(t, kafkatest.Options{Brokers: 3})
	feeds(t, b, 2, 2)
	s := spec(b)
	s.ReplicationFactor = 3
	var made atomic.Bool
	b.Fake.ControlKey(int16(kmsg.CreateTopics), func(kmsg.Request) (kmsg.Response, error, bool) {
		b.Fake.KeepControl()
		made.Store(true)
		return nil, nil, false
	})
	late := map[int32]int{0: 4, 2: 4} // so many answers of the node do not know it
	b.Fake.ControlKey(int16(kmsg.Metadata), func(r kmsg.Request) (kmsg.Response, error, bool) {
		b.Fake.KeepControl()
		req, node := r.(*kmsg.MetadataRequest), b.Fake.CurrentNode()
		named := slices.ContainsFunc(req.Topics, func(t kmsg.MetadataRequestTopic) bool { return t.Topic != nil && *t.Topic == s.DeadLetters })
		if !named || !made.Load() || late[node] == 0 {
			return nil, nil, false
		}
		late[node]--
		return withoutTopics(b, req), nil, true
	})
	if _, problems, err := admin.Create(t.Context(), connect(t, b), s); err != nil || len(problems) != 0 {
		t.Errorf("got %v, %v; want no problems", problems, err)
	}
}

// withoutTopics is the answer of a broker that knows no topic.
func withoutTopics(b *kafkatest.Broker, req *kmsg.MetadataRequest) *kmsg.MetadataResponse {
	resp := req.ResponseKind().(*kmsg.MetadataResponse)
	for i, addr := range b.Addrs {
		host, port, _ := strings.Cut(addr, ":")
		m := kmsg.NewMetadataResponseBroker()
		m.NodeID, m.Host = int32(i), host
		fmt.Sscan(port, &m.Port)
		resp.Brokers = append(resp.Brokers, m)
	}
	for _, t := range req.Topics {
		rt := kmsg.NewMetadataResponseTopic()
		rt.Topic, rt.ErrorCode = t.Topic, kerr.UnknownTopicOrPartition.Code
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func TestATopicThatTheClusterDoesNotAllowComesWithTheCommandForIt(t *testing.T) {
	b := kafkatest.Fake(t, kafkatest.Options{})
	feeds(t, b, 2, 2)
	b.Fake.ControlKey(int16(kmsg.CreateTopics), func(r kmsg.Request) (kmsg.Response, error, bool) {
		b.Fake.KeepControl()
		req := r.(*kmsg.CreateTopicsRequest)
		resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
		for _, t := range req.Topics {
			rt := kmsg.NewCreateTopicsResponseTopic()
			rt.Topic, rt.ErrorCode = t.Topic, kerr.PolicyViolation.Code
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	created, problems, err := admin.Create(t.Context(), connect(t, b), spec(b))
	if err != nil || created != nil || len(problems) != 7 {
		t.Fatalf("got %v %v %v", created, problems, err)
	}
	want := "--create --topic ebb-changelog --partitions 2 --replication-factor 1 --config max.message.bytes=1048588 --config cleanup.policy=compact"
	if p := plain(b, problems[0]); !strings.Contains(p.Mend, want) {
		t.Errorf("got %s", p)
	}
}

// TestAMissingFeedKeepsNothingElseFromBeingMade: the partition count is known from the feeds that are there.
func TestAMissingFeedKeepsNothingElseFromBeingMade(t *testing.T) {
	brokers(t, func(t *testing.T, b *kafkatest.Broker) {
		b.CreateTopic(t, b.Name("usage"), 3, nil)
		s := spec(b)
		s.Feeds = append(s.Feeds, admin.Feed{Role: "control", Topic: b.Name("control")})
		before := check(t, b, s)
		if !slices.ContainsFunc(before, func(p admin.Problem) bool {
			return plain(b, p).Where == "topic control" && strings.HasPrefix(p.Mend, "ebb topics create")
		}) {
			t.Errorf("a check does not say that the control topic can be created: %v", before)
		}
		created, problems, err := admin.Create(t.Context(), connect(t, b), s)
		if err != nil || len(created) != 8 || created[7] != b.Name("control") {
			t.Fatalf("created %v, %v", created, err)
		}
		for _, topic := range []string{s.Changelog, b.Name("control")} {
			if got := partitionsOf(t, b, topic); got != 3 {
				t.Errorf("%s has %d partitions, want 3", topic, got)
			}
		}
		if kind := settingsOf(t, b, b.Name("control"))["message.timestamp.type"]; kind == "LogAppendTime" {
			t.Error("acts lose the times that they were written with")
		}
		if len(problems) != 1 || plain(b, problems[0]).String() != "error: topic payments: does not exist; create it with 3 partitions, as the other feeds have them, or correct feeds.payments.topic" {
			t.Errorf("problems: %v", problems)
		}
	})
}

// TestWithoutAnyFeedNothingIsCreated: nor where those that exist do not agree. What to do first is said once.
func TestWithoutAnyFeedNothingIsCreated(t *testing.T) {
	for rule, counts := range map[string][2]int32{"none exists": {}, "they do not agree": {2, 3}} {
		t.Run(rule, func(t *testing.T) {
			b := kafkatest.Fake(t, kafkatest.Options{})
			if counts[0] > 0 {
				feeds(t, b, counts[0], counts[1])
			}
			created, problems, err := admin.Create(t.Context(), connect(t, b), spec(b))
			if err != nil || created != nil || !admin.Failed(problems) {
				t.Errorf("got %v %v %v", created, problems, err)
			}
			told := 0
			for _, p := range problems {
				if strings.Contains(p.String(), "topics create") {
					t.Errorf("the command that is running is advised: %s", p)
				}
				if strings.Contains(p.What, "were not created") {
					told++
				}
			}
			if told != 1 {
				t.Errorf("told %d times that nothing was created: %v", told, problems)
			}
		})
	}
}

func TestALoginWithoutRightsIsToldWhichItLacks(t *testing.T) {
	b := kafkatest.Real(t)
	feeds(t, b, 1, 1)
	s := spec(b)
	if _, problems, err := admin.Create(t.Context(), connect(t, b), s); err != nil || problems != nil {
		t.Fatal(problems, err)
	}
	l := b.Limited(t, "SCRAM-SHA-512")
	s.User = l.Login.Username
	lacking := map[string]bool{}
	for _, p := range check(t, l, s) {
		p = plain(b, p)
		if p.Severity != admin.Error || !strings.Contains(p.Mend, "kafka-acls.sh") || !strings.Contains(p.Mend, "User:"+l.Login.Username) {
			t.Errorf("%s", p)
		}
		lacking[p.Where] = true
	}
	for _, w := range []string{
		"topic usage", "topic payments", "topic churn-alerts", "topic churn-alerts-open", "topic ebb-operations", "topic ebb-changelog",
		"topic ebb-dlq", "group ebb", "transactional id ebb-0",
	} {
		if !lacking[w] {
			t.Errorf("says nothing of %s", w)
		}
	}
}

func TestSingleRightsAreMissed(t *testing.T) {
	allow := func(kind kmsg.ACLResourceType, name string, op kmsg.ACLOperation) kfake.ACL {
		return kfake.ACL{Resource: kind, Name: name, Pattern: kmsg.ACLResourcePatternTypePrefixed, Operation: op, Allow: true}
	}
	b := kafkatest.Fake(t, kafkatest.Options{
		Login: &kafkatest.Login{Mechanism: "PLAIN", Username: "root", Password: "root"},
		Kfake: []kfake.Opt{kfake.EnableACLs(), kfake.User(
			"PLAIN", "ebb", "ebb",
			allow(kmsg.ACLResourceTypeTopic, "", kmsg.ACLOperationRead),
			allow(kmsg.ACLResourceTypeTopic, "", kmsg.ACLOperationDescribeConfigs),
			allow(kmsg.ACLResourceTypeTransactionalId, "", kmsg.ACLOperationWrite),
			allow(kmsg.ACLResourceTypeGroup, "", kmsg.ACLOperationDescribe),
		)},
	})
	feeds(t, b, 1, 1)
	s := spec(b)
	if _, problems, err := admin.Create(t.Context(), connect(t, b), s); err != nil || problems != nil {
		t.Fatal(problems, err)
	}
	as := *b
	as.Login = &kafkatest.Login{Mechanism: "PLAIN", Username: "ebb", Password: "ebb"}
	var got []string
	for _, p := range check(t, &as, s) {
		p = plain(b, p)
		got = append(got, p.Where+": "+p.What)
	}
	want := []string{
		"topic ebb-changelog: the login lacks the right to Write",
		"topic churn-alerts: the login lacks the right to Write",
		"topic churn-alerts-open: the login lacks the right to Write",
		"topic ebb-operations: the login lacks the right to Write",
		"topic ebb-facts: the login lacks the right to Write",
		"topic ebb-facts-changelog: the login lacks the right to Write",
		"topic ebb-dlq: the login lacks the right to Write",
		"group ebb: the login lacks the right to join it",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestAClusterThatIsGoneIsAnError(t *testing.T) {
	c, err := conn.New(conn.Config{Brokers: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if p, err := admin.Check(ctx, c, admin.Spec{Group: "ebb"}); err == nil {
		t.Errorf("got %v", p)
	}
}

func settingsOf(t *testing.T, b *kafkatest.Broker, topic string) map[string]string {
	t.Helper()
	req := kmsg.NewPtrDescribeConfigsRequest()
	r := kmsg.NewDescribeConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, topic
	req.Resources = append(req.Resources, r)
	resp, err := req.RequestWith(t.Context(), b.Client(t))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, c := range resp.Resources[0].Configs {
		if c.Value != nil {
			got[c.Name] = *c.Value
		}
	}
	return got
}

func partitionsOf(t *testing.T, b *kafkatest.Broker, topic string) int {
	t.Helper()
	topics, _, err := connect(t, b).Topics(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	return len(topics[topic].Partitions)
}
