package stream

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/detectors/cohorts"
	"ebb/detectors/population"
	"ebb/state"
	"ebb/state/customer"
	"ebb/stream/conn"
	"ebb/stream/event"
	"ebb/stream/fetch"
	"ebb/stream/partition"
	"ebb/stream/txn"
)

// Config is what an instance does. All durations that compare with event time (Time, Completeness, Stall) are in the units
// of that time, so that a simulated clock may run faster; those of Cut and Group are in the time of the process.
type Config struct {
	Instance       string       // what this instance is called in operational alerts
	Identity       string       // what stays the same when this instance is started anew, no two of a group the same; empty: none
	Group          string       // consumer group, and prefix of the transactional ids
	Feeds          []FeedConfig // in any order; usage, payments and complaints are merged by event time
	Topics         Topics
	Quiet          bool                  // history: quiet
	Check          partition.Partitioner // nil: the partition of a key is not checked
	Time           TimeConfig
	Stall          StallConfig
	Letters        LetterConfig
	Reroute        RerouteConfig // where Topics.Reroute is set
	Cut            CutConfig
	Fetch          fetch.Config
	Membership     GroupConfig
	Restore        RestoreConfig
	Customer       customer.Params    // windows and caps of the customer record
	Population     *population.Config // what is learnt from the whole group, nil: nothing
	Cohorts        *cohorts.Config    // what is told of cohorts of customers, nil: nothing
	Rates          *detectors.Rates
	MaxRecordBytes int           // largest record value; 0: the event package's default
	Cache          int64         // bytes of decoded customers kept by the instance, divided by its tasks
	FlushAge       time.Duration // how long committed customers wait for Badger at most; 0: the state package's default
	Pending        int64         // bytes of committed customers waiting for Badger, per instance
}

// checkReroute refuses what cannot be forwarded.
func (c *Config) checkReroute() error {
	if c.Topics.Reroute != "" && c.Check == nil {
		return errors.New("topics.reroute needs a partitioner: without one nobody knows where a record belongs")
	}
	for _, f := range c.Feeds {
		if f.Reroute && c.Topics.Reroute == "" {
			return fmt.Errorf("feeds.%s.reroute needs topics.reroute, the topic through which its records go", f.Feed)
		}
	}
	return nil
}

// FeedConfig is one input topic.
type FeedConfig struct {
	Feed         event.Feed
	Topic        string
	Mapping      *event.Mapping // nil: the contract's own form
	Reroute      bool           // keyed by something else than the customer, or of another partition count: divided among the tasks, and forwarded
	Completeness time.Duration  // the last stretch that is not yet known, such as 26 h for a nightly file
}

// Topics are ebb's own topics.
type Topics struct {
	Alerts, OpenAlerts, Operations, Changelog, DeadLetters string
	Reroute                                                string // records on their way to another task; empty: a record in a wrong partition stops its task
	// Facts is what the tasks tell the second stage, FactsChangelog is its durable state: one partition each.
	Facts, FactsChangelog string
}

// TimeConfig is how event time is read.
type TimeConfig struct {
	Zone                 *time.Location // of the days of customers whose profile names none
	MaxOutOfOrder        time.Duration  // how far apart events may be mixed up without changing an alert
	MaxFutureSkew        time.Duration  // how far ahead of the wall clock an event time may be
	Grace                time.Duration  // how far the task clock stays behind the wall clock at the end of all feeds
	FeedUnreachableAfter time.Duration  // how long a feed that cannot be read holds the others
}

func (c TimeConfig) maxOutOfOrderMs() int64 { return c.MaxOutOfOrder.Milliseconds() }

// StallConfig says when a feed has fallen silent against its own rhythm.
type StallConfig struct {
	After    time.Duration // never sooner than this
	Expected float64       // arrivals that must have been due meanwhile
}

// LetterConfig says how much unreadable input is borne, within ten minutes of event time.
type LetterConfig struct {
	BlindRatio float64 // above: the feed's customers are blind
	BlindMin   uint64  // and at least so many dead letters
	StopRatio  float64 // from here on: the task stops
	StopMin    uint64
}

// CutConfig bounds what lies between two cuts of a task.
type CutConfig struct {
	MaxBytes  int64         // changed customers, estimated encoded bytes
	MaxEvents int           // records to replay after a crash
	MaxAge    time.Duration // of the oldest change
	Linger    time.Duration // how long a live alert waits for others of its task
	InFlight  int           // transactions of the instance at once
	Timeout   time.Duration // transaction.timeout.ms
	Codec     string        // none, lz4 or zstd
}

// RestoreConfig bounds how the changelog is read back.
type RestoreConfig struct {
	Memory         int64 // bytes of restored customers that wait for the disk, per instance; 0: the state package's default for each task
	BytesPerSecond int64 // keys and values, over all partitions of the instance; 0: as fast as it goes
}

// GroupConfig is the membership.
type GroupConfig struct {
	Session, Rebalance, Heartbeat time.Duration
	Drain                         time.Duration // time for the last cut before a rebalance
	Standby                       int           // local copies of each partition at other instances
	AcceptableLag                 int64         // changelog offsets that a copy may be behind and still take over at once; 0: 100,000
}

// Deps are the outside: clocks, network, disk, randomness. Nothing in this package reaches for them itself.
type Deps struct {
	Cluster      *conn.Cluster
	Now          func() time.Time // wall clock in event time
	Tick         func() time.Time // clock of the process, for ages and durations
	Rand         *rand.Rand
	Log          *slog.Logger
	Registry     Registerer
	State        Directory
	StateMetrics *state.Metrics
	Detectors    *detectors.Set
	Policy       *alerts.Policy
	// TxnStep is a seam for tests, nil otherwise: called before each step of a task's transactions, and of those of the
	// second stage (SecondStage). An error of it leaves the
	// transaction as if the process had died there.
	TxnStep func(partition int32, s txn.Step) error
}

// Directory is where the local copies of the tasks lie.
type Directory interface {
	// Task opens the copy of one partition. A copy that does not open is set aside and an empty one returned; aside then says why.
	Task(p int32) (store state.Store, aside error, err error)
	// MemberID is the group member id of the process that used this directory before, empty at first.
	MemberID() string
	RememberMember(id string) error
	// Tasks are the partitions of which a copy exists: the group gives them back first.
	Tasks() ([]int32, error)
}

// MisplacedError is a record in another partition than the configured partitioner gives its key.
type MisplacedError struct {
	Topic           string
	Partition, Want int32
	Offset          int64
}

func (e *MisplacedError) Error() string {
	return fmt.Sprintf("%s partition %d offset %d: the key of this record belongs into partition %d by the configured partitioner; "+
		"set `partitioner` to what the producers use (murmur2: Java clients, crc32: librdkafka), make all producers use one, "+
		"or name a topic in `topics.reroute`, through which ebb forwards such records",
		e.Topic, e.Partition, e.Offset, e.Want)
}
