package alerts

import (
	"encoding/hex"
	"strings"

	"ebb/detectors"
)

// OperationalKind is what an operational alert says of ebb or of its feeds.
type OperationalKind string

// The kinds.
const (
	FeedStalled         OperationalKind = "feed_stalled"
	FeedBlind           OperationalKind = "feed_blind"
	TaskStopped         OperationalKind = "task_stopped"
	CustomerQuarantined OperationalKind = "customer_quarantined"
	RetentionGap        OperationalKind = "retention_gap"
	DiskReserve         OperationalKind = "disk_reserve"
)

// OperationalKinds lists the kinds, for metric labels.
func OperationalKinds() []OperationalKind {
	return []OperationalKind{FeedStalled, FeedBlind, TaskStopped, CustomerQuarantined, RetentionGap, DiskReserve}
}

// conditions names a kind at the end of an alert's key, and says what it means. %s is the subject's id.
var conditions = map[OperationalKind]struct{ name, sentence, over string }{
	FeedStalled: {
		"stalled", "The feed %s has fallen silent against its own rhythm: nobody is judged by it until it returns.", "The feed %s is back.",
	},
	FeedBlind: {
		"blind", "Too many records of the feed %s cannot be read: nobody is judged by it until they can.", "The feed %s can be read again.",
	},
	TaskStopped: {
		"stopped", "The task of partition %s has stopped: its customers are not watched.", "The task of partition %s runs again.",
	},
	CustomerQuarantined: {
		"quarantined", "A customer of partition %s is quarantined: several of the records failed inside ebb.", "No customer of partition %s is quarantined any more.",
	},
	RetentionGap: {
		"retention_gap", "Records of the feed %s were deleted by the broker before ebb had read them.", "The retention gap of the feed %s is over.",
	},
	DiskReserve: {
		"disk_reserve", "The disk of %s is down to its reserve: the local copy is not written until there is room.", "The disk of %s has room again.",
	},
}

// Operational is a step of an alert about ebb itself or its feeds. It concerns no customer.
type Operational struct {
	Kind     OperationalKind
	Subject  string // what it is about, such as feed/usage or partition/3
	Step     StepKind
	Reason   Reason // of a resolved one
	Severity Severity
	Revision uint32 // from 1
	At       int64  // event time of the step, ms
	Opened   int64  // event time at which it fired, ms; part of the alert's id, so that no two alerts about one thing may have the same
	Since    int64  // when the condition began, ms, as far as is known so far
	Detail   string // what exactly, and what mends it; may be empty
	// Partitions are those that it concerned so far, ascending.
	Partitions []int32
}

// Key is the alert's record key: what it is about and what of it, such as feed/usage/stalled.
func (op *Operational) Key() string {
	if c, ok := conditions[op.Kind]; ok {
		return op.Subject + "/" + c.name
	}
	return op.Subject + "/" + string(op.Kind)
}

// Summary tells the condition in a sentence.
func (op *Operational) Summary() string {
	_, id := op.about()
	c := conditions[op.Kind]
	if op.Step == StepResolved {
		return strings.Replace(c.over, "%s", id, 1)
	}
	return strings.Replace(c.sentence, "%s", id, 1)
}

// about splits the subject into type and id.
func (op *Operational) about() (kind, id string) {
	kind, id, ok := strings.Cut(op.Subject, "/")
	if !ok {
		return "instance", op.Subject
	}
	return kind, id
}

// maxPartitions bounds the partitions that the evidence lists.
const maxPartitions = 100

// OperationalMessage writes an operational step in the envelope of alerts, without a customer.
func (p *Policy) OperationalMessage(op *Operational) Message {
	key := []byte(op.Key())
	sum := p.alertID("", string(op.Kind), op.Subject, op.Opened)
	id := hex.AppendEncode(nil, sum[:])
	o := detectors.Begin(make([]byte, 0, 512))
	head(&o, id, op.Revision, op.Step, op.Reason, string(op.Kind))
	o.Object("subject", func(o *detectors.Object) {
		kind, id := op.about()
		o.Text("type", kind)
		o.Text("id", id)
	})
	o.Text("severity", op.Severity.String())
	o.Text("summary", op.Summary())
	o.Time("time", op.At)
	o.TimeIf("since", op.Since)
	o.Object("evidence", func(o *detectors.Object) {
		o.TextIf("detail", op.Detail)
		o.Int("partition_count", int64(len(op.Partitions)))
		o.Ints("partitions", op.Partitions[:min(len(op.Partitions), maxPartitions)])
	})
	o.TextIf("config_hash", p.cfg.ConfigHash)
	return Message{
		Key: key, Value: o.End(),
		Headers: p.headers(operationalTypes[op.Step], id, op.Revision, key, op.At, operationalSchema),
	}
}
