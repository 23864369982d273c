// Package admin looks after topics: it finds out whether the topics of a configuration are fit for ebb, and creates the
// ones that ebb writes.
//
// Check asks the cluster, changes nothing, and answers everything that is wrong at once, each with the configuration key or
// the command that mends it. Create makes missing topics of ebb's own, and that of the control feed, to which its commands write, with settings that fit
// their use; it never touches a topic that exists, never creates another feed, and never deletes anything.
package admin

import (
	"cmp"
	"fmt"
	"time"
)

// Spec is what ebb needs of a cluster.
type Spec struct {
	Group string // consumer group
	User  string // login, for the commands that grant rights; empty: unknown
	// TransactionalID is one of the transactional ids that will be used, to find out whether the login may. Empty: not asked.
	TransactionalID string
	Feeds           []Feed
	ConfigFile      string // for the commands that mend; empty: FILE
	CreatedByRun    bool   // ebb run makes its own missing topics, so that a check need only mention them

	Alerts, OpenAlerts, Operations, Changelog, DeadLetters, Facts, FactsChangelog string
	Reroute                                                                       string // empty: none

	ReplicationFactor   int           // of created topics; -1 or 0: the broker's default
	AlertPartitions     int           // of created alert and open-alert topics; 0: as many as the feeds
	AlertRetention      time.Duration // of created alert and operations topics
	DeadLetterRetention time.Duration // of a created dead-letter topic

	MaxBatchBytes  int // largest record batch that ebb writes; 0: 1 MiB
	MaxRecordBytes int // largest record that may have to go to dead letters; 0: 1 MiB
}

// Feed is a topic that is read.
type Feed struct {
	Role  string // usage, payments, ...: the key below feeds in the configuration
	Topic string
	// Rerouted: its records are forwarded to where they belong, so that its partition count may be any.
	Rerouted bool
}

// Severity says whether ebb can run.
type Severity uint8

// Error: ebb cannot run, or would lose something. Warning: it can, but somebody should know.
const (
	Error Severity = iota
	Warning
)

func (s Severity) String() string {
	if s == Warning {
		return "warning"
	}
	return "error"
}

// MarshalText is the severity's word, for JSON.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Problem is one thing that is not as it should be.
type Problem struct {
	Severity Severity `json:"severity"`
	Where    string   `json:"where"` // topic usage, group ebb, ...
	What     string   `json:"what"`
	Mend     string   `json:"mend"` // the configuration key or the command
}

// String is the problem as one line.
func (p Problem) String() string {
	return fmt.Sprintf("%s: %s: %s; %s", p.Severity, p.Where, p.What, p.Mend)
}

// Failed says whether any of the problems is an error.
func Failed(problems []Problem) bool {
	for _, p := range problems {
		if p.Severity == Error {
			return true
		}
	}
	return false
}

const (
	// batchSlack is the overhead of the log, which a broker counts as part of the batch. Kafka's default of
	// max.message.bytes is 1 MiB and this, so that topics with default settings are fit for batches of 1 MiB.
	batchSlack = 12
	// deadLetterSlack is room for the headers that say why a record is dead.
	deadLetterSlack = 64 << 10
	day             = 24 * time.Hour
)

func (s *Spec) batchBytes() int {
	if s.MaxBatchBytes > 0 {
		return s.MaxBatchBytes
	}
	return 1 << 20
}

// createCommand is the command that creates missing topics.
func (s *Spec) createCommand() string { return s.command("ebb topics create") }

// command is a command of ebb on this configuration.
func (s *Spec) command(words string) string { return words + " -c " + cmp.Or(s.ConfigFile, "FILE") }

func (s *Spec) recordBytes() int {
	if s.MaxRecordBytes > 0 {
		return s.MaxRecordBytes
	}
	return 1 << 20
}
