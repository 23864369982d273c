package admin

import (
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"
)

// own is one of the topics that ebb writes.
type own struct {
	key     string // in the configuration
	topic   string
	compact bool
	asFeeds bool // must have the feeds' partition count
	single  bool // must have one partition
	reads   bool // ebb also reads it
	bytes   int  // max.message.bytes that it needs
	// asWritten: its records keep the times that their writers gave them, as those of every feed do.
	asWritten bool
}

func (s *Spec) own() []own {
	batch := s.batchBytes() + batchSlack
	all := []own{
		{key: "topics.changelog", topic: s.Changelog, compact: true, asFeeds: true, reads: true, bytes: batch},
		{key: "topics.alerts", topic: s.Alerts, reads: true, bytes: batch},
		{key: "topics.open_alerts", topic: s.OpenAlerts, compact: true, reads: true, bytes: batch},
		{key: "topics.operations", topic: s.Operations, reads: true, bytes: batch},
		{key: "topics.reroute", topic: s.Reroute, asFeeds: true, reads: true, bytes: max(batch, s.recordBytes()+deadLetterSlack)},
		{key: "topics.facts", topic: s.Facts, single: true, reads: true, bytes: batch},
		{key: "topics.facts", topic: s.FactsChangelog, compact: true, single: true, reads: true, bytes: batch},
		{key: "topics.dead_letters", topic: s.DeadLetters, bytes: max(batch, s.recordBytes()+deadLetterSlack)},
	}
	used := all[:0]
	for _, o := range all {
		if o.topic != "" {
			used = append(used, o)
		}
	}
	return used
}

// controlRole is the feed whose topic ebb makes: its commands write to it, and nobody else need have it before.
const controlRole = "control"

// control is the topic of the control feed, if there is one.
func (s *Spec) control() []own {
	for _, f := range s.Feeds {
		if f.Role == controlRole {
			return []own{{key: "feeds.control.topic", topic: f.Topic, asFeeds: true, asWritten: true}}
		}
	}
	return nil
}

// partitions is how many a created topic gets.
func (s *Spec) partitions(o own, feeds int) int {
	switch {
	case o.asFeeds || o.topic == s.DeadLetters:
		return feeds
	case o.single, o.topic == s.Operations:
		return 1
	case s.AlertPartitions > 0:
		return s.AlertPartitions
	}
	return feeds
}

// settings are what a created topic cannot do without.
//
// The topics that are deleted by age carry the time at which the broker got the record, not the event's: otherwise a
// replay of last year's events would be deleted as soon as it was written.
func (s *Spec) settings(o own) []kafka.ConfigEntry {
	list := []kafka.ConfigEntry{{ConfigName: "max.message.bytes", ConfigValue: strconv.Itoa(max(o.bytes, defaultMaxMessage))}}
	if s.ReplicationFactor >= 3 {
		list = append(list, kafka.ConfigEntry{ConfigName: "min.insync.replicas", ConfigValue: "2"})
	}
	if o.compact {
		return append(
			list,
			kafka.ConfigEntry{ConfigName: "cleanup.policy", ConfigValue: "compact"},
			// An instance or subscriber that was away for less than this still sees what was removed.
			kafka.ConfigEntry{ConfigName: "delete.retention.ms", ConfigValue: millis(7 * day)},
		)
	}
	retention := s.AlertRetention
	switch o.topic {
	case s.DeadLetters:
		retention = s.DeadLetterRetention
	case s.Facts: // folded at once, and told again every day
		retention = 7 * day
	case s.Reroute:
		retention = rerouteRetention
	}
	if retention > 0 {
		list = append(list, kafka.ConfigEntry{ConfigName: "retention.ms", ConfigValue: millis(retention)})
	}
	list = append(list, kafka.ConfigEntry{ConfigName: "cleanup.policy", ConfigValue: "delete"})
	if o.asWritten {
		return list
	}
	return append(list, kafka.ConfigEntry{ConfigName: "message.timestamp.type", ConfigValue: "LogAppendTime"})
}

// rerouteRetention is how long a task may stand still without losing what others forward to it.
const rerouteRetention = 14 * day

// defaultMaxMessage is Kafka's own default of max.message.bytes.
const defaultMaxMessage = 1_048_588

// tuning makes compaction keep up, so that a restore reads little more than one record a customer and what was erased is
// gone within a day or so. Some managed clusters do not let a client set these; a topic is created without them there.
func tuning(o own) []kafka.ConfigEntry {
	if !o.compact {
		return nil
	}
	return []kafka.ConfigEntry{
		{ConfigName: "segment.bytes", ConfigValue: strconv.Itoa(64 << 20)},
		{ConfigName: "min.cleanable.dirty.ratio", ConfigValue: "0.2"},
		{ConfigName: "max.compaction.lag.ms", ConfigValue: millis(day)},
	}
}

func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
