package config

import (
	"crypto/tls"
	"slices"
	"strings"
	"time"

	"ebb/detectors"
	"ebb/detectors/cohorts"
	"ebb/detectors/hours"
	"ebb/stream/event"
)

// Config is the whole configuration of one ebb instance. All instances of a group run with the same file, apart from
// state.dir, client_id and http.listen.
//
// Struct tags: yaml is the key, range the allowed span (either end may be missing), enum the allowed words, required
// marks what has no default. The comment of a field is its documentation for users.
type Config struct {
	// Name of the consumer group, and prefix of the internal topics and transactional ids. Instances with the same group
	// share the partitions; two groups on the same feeds are independent of each other, and need alert topics of their own
	// (topics.alerts, open_alerts, operations), or subscribers see the alerts of both. Letters, digits, dot, dash and underscore.
	Group string `yaml:"group" required:"true"`
	// Kafka brokers to start from, each as host:port. Two or three of a cluster are enough, the others are found.
	Brokers []string `yaml:"brokers" required:"true"`
	// Name under which the brokers see this instance, in their logs and quotas.
	ClientID string `yaml:"client_id"`
	// How to talk to brokers that ask for encryption or a login.
	Security Security `yaml:"security"`
	// The local copy of what is known of the customers. It can be rebuilt from the changelog topic at any time.
	State State `yaml:"state"`
	// How the local copy is rebuilt.
	Restore Restore `yaml:"restore"`
	// How many other instances keep a copy of each partition's state, so that one of them takes over within moments when its owner is
	// gone. The same for all instances of a group. 0: none; a new owner then reads the changelog first.
	Standby int `yaml:"standby" range:"0..10"`
	// What a first start on topics full of history publishes. quiet: only what still fires once caught up, and is not long
	// gone. publish: every step, as if ebb had been there from the beginning.
	History string `yaml:"history" enum:"quiet|publish"`
	// How time is understood.
	Time Time `yaml:"time"`
	// The topics to read. At least one of usage, payments and complaints; all with the same number of partitions, because
	// partition p of every feed belongs to the same customers. A feed that is not so is read with reroute: true.
	Feeds Feeds `yaml:"feeds" required:"true"`
	// How the producers of the feeds choose a partition by the record key: murmur2 (Java clients, kafka-go's
	// Murmur2Balancer), crc32 (librdkafka's consistent and consistent_random, so most of C, Python, .NET). Each record's
	// partition is checked against it, since a customer in two partitions would be two customers. none: not checked.
	Partitioner string `yaml:"partitioner" enum:"murmur2|crc32|none"`
	// The topics that ebb writes.
	Topics Topics `yaml:"topics"`
	// How records that lie in another partition than their customer's are forwarded, where topics.reroute names a topic.
	Reroute Reroute `yaml:"reroute"`
	// Currencies.
	Money Money `yaml:"money"`
	// The tiers of customers as the customers feed names them, the best first: detectors.tier_drop tells who moves down out of one of the first two, and a tier that
	// detectors.complaint_unresolved.targets name must be one of them. Left out: their order is not known, and every name is allowed.
	Tiers []string `yaml:"tiers"`
	// Working hours by name, for the clocks of complaints: detectors.complaint_unresolved.calendar, the calendar of one of its
	// targets, or a customer's schedule names one of them.
	Calendars map[string]Calendar `yaml:"calendars"`
	// The rules by which customers are judged.
	Detectors detectors.Config `yaml:"detectors"`
	// What is told of cohorts of customers: when more of them begin to leave than chance explains, that is one alert that lists them.
	Cohorts Cohorts `yaml:"cohorts"`
	// The life of an alert.
	Alerts Alerts `yaml:"alerts"`
	// When a feed as a whole counts as silent, so that its silence is not taken for the customers'.
	Stall Stall `yaml:"stall"`
	// How many unreadable records are bearable.
	DeadLetters DeadLetters `yaml:"dead_letters"`
	// When a task's changes are committed, as one Kafka transaction. Alerts do not wait for these bounds: a step of an
	// alert is committed at once.
	Cut Cut `yaml:"cut"`
	// How the feeds are read.
	Fetch Fetch `yaml:"fetch"`
	// How the instances of a group find out about each other.
	Membership Membership `yaml:"membership"`
	// The page, the metrics and the health checks.
	HTTP HTTP `yaml:"http"`
	// Where alert steps are sent by HTTP POST, beside the alert topic.
	Webhooks []Webhook `yaml:"webhooks"`
	// What ebb says on standard error.
	Log Log `yaml:"log"`

	file          string
	hash          string
	tls           *tls.Config
	calendarFiles map[string]string // by calendar: the digest of what its file held
}

// Security is how the brokers are talked to.
type Security struct {
	// Encryption.
	TLS TLS `yaml:"tls"`
	// Login.
	SASL SASL `yaml:"sasl"`
}

// TLS is the encryption towards the brokers.
type TLS struct {
	// Talk TLS to the brokers.
	Enabled bool `yaml:"enabled"`
	// PEM file with the certificates of the authorities that may vouch for the brokers. Empty: those of the system.
	CAFile File `yaml:"ca_file"`
	// PEM file with ebb's own certificate, for brokers that ask for one (mTLS). Needs key_file.
	CertFile File `yaml:"cert_file"`
	// PEM file with the private key of cert_file.
	KeyFile File `yaml:"key_file"`
	// Name that the brokers' certificates must carry, where it is not the host they are dialled by.
	ServerName string `yaml:"server_name"`
}

// SASL is the login at the brokers.
type SASL struct {
	// How to log in; none: not at all.
	Mechanism string `yaml:"mechanism" enum:"none|plain|scram-sha-256|scram-sha-512"`
	// User name.
	Username string `yaml:"username"`
	// Password. Better in a file or in the environment: ${KAFKA_PASSWORD}.
	Password Secret `yaml:"password"`
	// File that holds the password; a line end after it is cut off. Takes the place of password.
	PasswordFile File `yaml:"password_file"`
}

// State is the local copy.
type State struct {
	// Folder of the local copy, one for each instance. A relative path is taken from where ebb is started.
	Dir string `yaml:"dir"`
	// Memory for decoded customers of all partitions of this instance together. Customers beyond it are read from disk when
	// they are needed.
	Cache Bytes `yaml:"cache" range:"16MB..1TB"`
	// Memory for committed customers of all partitions of this instance that are not on disk yet. Many changes of one
	// customer are then written once.
	WriteBehind Bytes `yaml:"write_behind" range:"1MB..1TB"`
	// How long a committed customer may wait for the disk. A crash loses nothing by it, but has that much more to read again
	// from the changelog.
	FlushAfter Duration `yaml:"flush_after" range:"10ms..10m"`
	// Free space below which ebb stops writing to the disk of state.dir, before the disk is full.
	DiskReserve Bytes `yaml:"disk_reserve" range:"64MB..1TB"`
	// Days of history kept for each customer, in daily windows.
	KeptDays int `yaml:"kept_days" range:"91..400"`
	// How many event ids of one customer are remembered, so that an event that its producer repeats counts once.
	RememberedIDs int `yaml:"remembered_ids" range:"0..256"`
	// For how long, in event time, they are remembered.
	RememberedFor Duration `yaml:"remembered_for" range:"0s..30d"`
}

// Restore is how the local copy is rebuilt from the changelog.
type Restore struct {
	// Memory for restored customers of all partitions of this instance that are not on disk yet. A partition whose customers fit into
	// its share is at work as soon as its changelog is read; what exceeds it has to be written first. Given back when all is on disk.
	Memory Bytes `yaml:"memory" range:"16MB..1TB"`
	// Limit to what all restores and standby copies of this instance read together, in bytes a second, so that they do
	// not starve the partitions that are at work. 0: none.
	MaxBytesPerSecond Bytes `yaml:"max_bytes_per_second" range:"0B..1TB"`
}

// Time is how time is understood.
type Time struct {
	// IANA zone in which days begin and end, for customers whose profile names none: UTC, Europe/Berlin.
	Zone string `yaml:"zone"`
	// How far the times of events may be out of order within the topics. Timers wait that long, so that a late event still
	// counts; larger is slower to notice silence, smaller judges late events as late.
	MaxOutOfOrder Duration `yaml:"max_out_of_order" range:"0s..24h"`
	// How far ahead of the clock an event's time may lie before it is refused as time_in_future.
	MaxFutureSkew Duration `yaml:"max_future_skew" range:"1s..48h"`
	// How far the clock stays behind the wall clock at the end of the topics, for records still on their way.
	Grace Duration `yaml:"grace" range:"0s..10m"`
	// After how long a feed that cannot be read no longer holds up the others. Its later records count as late.
	FeedUnreachableAfter Duration `yaml:"feed_unreachable_after" range:"1s..1h"`
}

// Feeds are the topics that are read.
type Feeds struct {
	// What customers use: sessions, calls, logins, deliveries.
	Usage Feed `yaml:"usage"`
	// What customers pay: purchases, charges, refunds, subscriptions.
	Payments Feed `yaml:"payments"`
	// What customers complain about, and what was done about it.
	Complaints Feed `yaml:"complaints"`
	// Who the customers are: tier, segment, region, owner, time zone. Optional; at a first start it is read to its end
	// before the others.
	Customers Feed `yaml:"customers"`
	// What people do about alerts and customers: acknowledge, snooze, say what became of an alert, merge two customers who are one. Optional; `ebb alerts ack` and its
	// like write to it. Merges need topics.reroute.
	Control Feed `yaml:"control"`
}

// Feed is one topic that is read.
type Feed struct {
	// Name of the topic. Empty: this feed is not read.
	Topic string `yaml:"topic"`
	// How long after its time a record may still arrive in normal operation, for example 26h for a nightly file. Rules
	// about silence and falling spend treat that last stretch of the feed as not yet known.
	Completeness Duration `yaml:"completeness" range:"0s..60d"`
	// The topic is keyed by something else than the customer, or has another number of partitions than the other feeds. Its
	// records are forwarded to their customers' partitions through topics.reroute, which costs a second write of each.
	Reroute bool `yaml:"reroute"`
	// How your records are to be understood. Left out: they have the form of ebb's own contract, docs/records.md.
	Mapping *event.Mapping `yaml:"mapping"`
}

// Topics are the topics that are written.
type Topics struct {
	// Steps of alerts, key = customer id. Not compacted: every step stays, for as long as retention says.
	Alerts string `yaml:"alerts"`
	// What is open now, key = alert id, compacted: the last step of each open alert, removed at its resolution.
	OpenAlerts string `yaml:"open_alerts"`
	// Alerts about ebb itself and its feeds: a stalled feed, a stopped task. They have no customer.
	Operations string `yaml:"operations"`
	// ebb's durable memory, key = customer id, compacted, as many partitions as the feeds. Left out: GROUP-changelog.
	Changelog string `yaml:"changelog"`
	// Records that could not be used, as they were, with the reason in the headers. Left out: GROUP-dlq.
	DeadLetters string `yaml:"dead_letters"`
	// Records on their way to the partition of their customer, as many partitions as the feeds; ebb writes and reads it by
	// itself. Empty: a record that lies in another partition than its key's stops that partition.
	Reroute string `yaml:"reroute"`
	// What the tasks tell about more than one customer, such as a stalled feed: read by the instance that answers for the whole group. One
	// partition; its state is in a compacted topic of the same name with -changelog behind it. Left out: GROUP-facts.
	Facts string `yaml:"facts"`
	// Create missing topics at the start of ebb run, as ebb topics create does.
	Create bool `yaml:"create"`
	// Replicas of each partition of created topics; -1: the broker's default.
	ReplicationFactor int `yaml:"replication_factor" range:"-1..32"`
	// Partitions of created alert and open-alert topics; 0: as many as the feeds.
	AlertPartitions int `yaml:"alert_partitions" range:"0..10000"`
	// How long created alert and operations topics keep their records.
	AlertRetention Duration `yaml:"alert_retention" range:"1d..3650d"`
	// How long a created dead-letter topic keeps its records.
	DeadLetterRetention Duration `yaml:"dead_letter_retention" range:"14d..3650d"`
}

// Reroute is how records are forwarded between partitions.
type Reroute struct {
	// Least time between two notes of a partition to all others of how far it has come, in event time. While somebody catches up
	// they are sent more often, and not at all while nobody needs them.
	Interval Duration `yaml:"interval" range:"100ms..10m"`
	// Memory for forwarded records that wait for their turn, of all partitions of this instance together. When it is full, and
	// nothing else can go on, the earliest is applied before its turn, and counted.
	Buffer Bytes `yaml:"buffer" range:"1MB..64GB"`
}

// Calendar is when people work.
type Calendar struct {
	hours.Config `yaml:",inline"`
	// File with days on which nobody works, or that have hours of their own: iCalendar if its name ends in .ics, of which events that last whole days
	// count; else CSV with a date, the day's hours as 09:00-13:00 or nothing, and a name.
	File File `yaml:"file"`
}

// FactsChangelog is the topic beside Facts.
func (t *Topics) FactsChangelog() string { return t.Facts + "-changelog" }

// Money is about currencies.
type Money struct {
	// Reporting currency, as a code of three capital letters: spend is judged and money at risk is shown in it.
	Currency string `yaml:"currency"`
	// What one unit of another currency is worth in the reporting currency, as exact decimals: {USD: "0.92"}. Spend in a
	// currency without a rate counts as activity only, and is counted in the metrics.
	Rates map[string]string `yaml:"rates"`
}

// Alerts is the life of an alert.
type Alerts struct {
	// How far ahead is looked: for so long nothing more is done with the probability that an alert names, by that it is judged afterwards, and for that time money at risk is reckoned. Who comes
	// less often gets a longer one, half as long again as his mean gap. It should hold three of the usual gaps of your customers: `ebb backtest`, the log and the metric ebb_model_median_gap_days tell where it is too short.
	Horizon Duration `yaml:"horizon" range:"1d..366d"`
	// A condition that began longer than this before the end of the history, of a customer who did nothing since, is not
	// published on a first start: who left last year is not news.
	MaxAlertAge Duration `yaml:"max_alert_age" range:"1h..3650d"`
	// After how long a silence alert is resolved as churned.
	LapseAfter Duration `yaml:"lapse_after" range:"1d..3650d"`
	// After how long without an event a customer without open alerts is forgotten. The model learns from those who come back, as long as they are remembered: five horizons serve it best.
	ForgetAfter Duration `yaml:"forget_after" range:"91d..36500d"`
	// After how long an alert that nobody has acknowledged is told again, and again after each such time; at least 1h, or 0s for never.
	RemindAfter Duration `yaml:"remind_after" range:"0s..366d"`
	// Whether a complaint (`complaint_unresolved`, `friction`) and a drop (`silence`, `spend_drop`, `usage_drop`, `outflow`, `partial_lapse`) of the same customer at the same time are one alert: what comes later
	// raises the severity of what is open, which then names both. Detectors of the method `plain` are told each by itself in any case.
	Together bool `yaml:"together"`
	// For how long a condition is not told again that a person closed with an outcome, unless something new has happened. A complaint that was closed so is not followed
	// any more.
	QuietAfterOutcome Duration `yaml:"quiet_after_outcome" range:"1d..366d"`
}

// Cohorts is what is told of cohorts of customers.
type Cohorts struct {
	// Whether cohorts are watched at all. Everybody is one of them in any case.
	Enabled bool `yaml:"enabled"`
	// Which fields of the customers feed make cohorts: segment, region, product, owner.
	By []string `yaml:"by"`
	// How many alerts a year there may be at most, of all cohorts together, while customers leave as they always did.
	FalseAlarms float64 `yaml:"false_alarms" range:"0.001..50"`
	// How many customers of a cohort must have begun to leave for an alert.
	LeastMembers int `yaml:"least_members" range:"2..1000000"`
	// Whether what all customers together spend, and move away from their accounts, is watched week by week: a total may fall although nobody leaves.
	Totals bool `yaml:"totals"`
	// Whether an alert that says of a customer that he does less, or nothing, is held back while an alert about a cohort of his is open. What still fires when that is over is told then.
	HoldBack bool `yaml:"hold_back"`
	// Whether new customers are judged by the week and the source (field of the customers feed) that they came from: how many are still active after eight weeks, against those of earlier
	// weeks. There may be as many false alarms of these again as false_alarms says.
	Intakes bool `yaml:"intakes"`
}

// Dimensions are what makes cohorts.
func (c *Cohorts) Dimensions() []cohorts.Dimension {
	out := make([]cohorts.Dimension, 0, len(c.By))
	for _, name := range c.By {
		if d, ok := cohorts.ParseDimension(name); ok {
			out = append(out, d)
		}
	}
	return out
}

// Stall is when a feed counts as silent.
type Stall struct {
	// How long nothing must have come. A week of the feed has to be known before ebb judges.
	After Duration `yaml:"after" range:"10s..7d"`
	// How many records the feed's own rhythm (by hour of the week) must have promised in that time and partition.
	ExpectedRecords int `yaml:"expected_records" range:"1..1000000"`
}

// DeadLetters is how many unreadable records are bearable.
type DeadLetters struct {
	// Share of a feed's records of ten minutes above which the feed is blind: silence and drop are not judged, one
	// operational alert is raised.
	BlindRatio float64 `yaml:"blind_ratio" range:"0..1"`
	// And at least so many of them, so that a quiet feed is not blind for one bad record.
	BlindMin int `yaml:"blind_min" range:"1..1000000"`
	// Share from which on the task stops, instead of emptying a topic into dead letters.
	StopRatio float64 `yaml:"stop_ratio" range:"0..1"`
	// And at least so many of them.
	StopMin int `yaml:"stop_min" range:"1..1000000"`
	// Largest record value that is read; larger ones are refused as record_too_large.
	MaxRecordBytes Bytes `yaml:"max_record_bytes" range:"1KB..16MB"`
}

// Cut is when changes are committed.
type Cut struct {
	// Changed state after which a task commits.
	MaxBytes Bytes `yaml:"max_bytes" range:"64KB..1GB"`
	// Events applied after which a task commits: what a crash has to read again.
	MaxEvents int `yaml:"max_events" range:"1..100000000"`
	// Age of the oldest uncommitted change after which a task commits.
	MaxAge Duration `yaml:"max_age" range:"10ms..10m"`
	// How long an alert waits for others of its partition, to be committed together with them.
	AlertLinger Duration `yaml:"alert_linger" range:"0s..1s"`
	// After how long the broker aborts a transaction of an instance that was killed. Readers of the alerts wait that long
	// for whatever lies behind it, unless the instance comes back before.
	TransactionTimeout Duration `yaml:"transaction_timeout" range:"10s..15m"`
	// Transactions of this instance that may be open at once.
	TransactionsInFlight int `yaml:"transactions_in_flight" range:"1..64"`
	// Compression of everything that is written.
	Compression string `yaml:"compression" enum:"lz4|zstd|none"`
}

// Fetch is how the feeds are read.
type Fetch struct {
	// How long a broker may hold back an answer while it has nothing new.
	MaxWait Duration `yaml:"max_wait" range:"10ms..5s"`
	// Memory for records read but not yet applied, of all partitions of this instance together.
	Buffer Bytes `yaml:"buffer" range:"4MB..64GB"`
	// Part of it that each partition has for itself, so that one busy partition does not starve the others. Less when half
	// of buffer does not suffice for all.
	Reserved Bytes `yaml:"reserved" range:"4KB..64MB"`
	// Largest answer of a broker. A single larger batch comes nevertheless.
	MaxBytes Bytes `yaml:"max_bytes" range:"64KB..512MB"`
	// Most of one partition in one answer.
	PartitionMaxBytes Bytes `yaml:"partition_max_bytes" range:"16KB..512MB"`
}

// Membership is how the instances of a group find out about each other.
type Membership struct {
	// After how long without a sign of life an instance counts as dead and its partitions go to the others. The brokers
	// bound it: group.min.session.timeout.ms (6 s) to group.max.session.timeout.ms.
	SessionTimeout Duration `yaml:"session_timeout" range:"1s..30m"`
	// How long the group waits for its members when partitions are shared out anew.
	RebalanceTimeout Duration `yaml:"rebalance_timeout" range:"1s..30m"`
	// How often a sign of life is given; at most a third of session_timeout.
	Heartbeat Duration `yaml:"heartbeat" range:"50ms..1m"`
	// How long commits in flight may take when a partition is given up; shorter than rebalance_timeout.
	Drain Duration `yaml:"drain" range:"100ms..1m"`
}

// HTTP is the page, the metrics and the health checks.
type HTTP struct {
	// Address to listen on, host:port. Port 0 takes a free one. Empty: nothing listens. The page has no login: keep it on
	// the loopback address, or behind something that has one.
	Listen string `yaml:"listen"`
	// Serve the page at /.
	Console bool `yaml:"console"`
	// Serve Go's profiles at /debug/pprof/.
	PProf bool `yaml:"pprof"`
}

// Webhook is one receiver of alert steps.
type Webhook struct {
	// Short name of the receiver, in metrics and in the group that keeps its progress: GROUP-webhook-NAME. Renaming it
	// starts over.
	Name string `yaml:"name" required:"true"`
	// Address to POST to, http or https.
	URL string `yaml:"url" required:"true"`
	// Key with which each request is signed (HMAC-SHA-256, header Ebb-Signature). Several, one a line, while the receiver
	// changes over: each signs.
	Secret Secret `yaml:"secret"`
	// File that holds the key, or several, one a line. Takes the place of secret.
	SecretFile File `yaml:"secret_file"`
	// Headers that are sent along, for a receiver that wants a login of its own: {Authorization: "Bearer ${TOKEN}"}.
	Headers map[string]Secret `yaml:"headers"`
	// How long one request may take.
	Timeout Duration `yaml:"timeout" range:"100ms..5m" default:"10s"`
	// Requests under way at once. Steps of one alert go one after another all the same.
	InFlight int `yaml:"in_flight" range:"1..256" default:"8"`
	// Attempts at a step that the receiver refuses (4xx) until it is left out and counted. A receiver that cannot be reached
	// is waited for without end.
	MaxAttempts int `yaml:"max_attempts" range:"1..1000" default:"5"`
}

// Secrets are the keys that sign, one or several.
func (w *Webhook) Secrets() []string {
	return strings.FieldsFunc(w.Secret.Value(), func(r rune) bool { return r == '\n' || r == '\r' })
}

// Log is what is said on standard error.
type Log struct {
	// Least level that is shown.
	Level string `yaml:"level" enum:"debug|info|warn|error"`
	// text for people, json for machines.
	Format string `yaml:"format" enum:"text|json"`
}

// Default is the configuration of an empty file: everything but group, brokers and feeds.
func Default() Config {
	const day = Duration(24 * time.Hour)
	return Config{
		ClientID: "ebb",
		Security: Security{SASL: SASL{Mechanism: "none"}},
		State: State{
			Dir: "./ebb-state", Cache: 256e6, WriteBehind: 64e6, FlushAfter: Duration(30 * time.Second), DiskReserve: 1e9,
			KeptDays: 91, RememberedIDs: 64, RememberedFor: 2 * day,
		},
		Restore:     Restore{Memory: 512e6},
		History:     "quiet",
		Partitioner: "murmur2",
		Time: Time{
			Zone:                 "UTC",
			MaxOutOfOrder:        Duration(10 * time.Minute),
			MaxFutureSkew:        Duration(time.Hour),
			Grace:                Duration(time.Second),
			FeedUnreachableAfter: Duration(30 * time.Second),
		},
		Topics: Topics{
			Alerts:              "churn-alerts",
			OpenAlerts:          "churn-alerts-open",
			Operations:          "ebb-operations",
			ReplicationFactor:   -1,
			AlertRetention:      365 * day,
			DeadLetterRetention: 30 * day,
		},
		Reroute:     Reroute{Interval: Duration(time.Second), Buffer: 64e6},
		Money:       Money{Currency: "EUR"},
		Detectors:   detectors.Defaults(),
		Alerts:      Alerts{Horizon: 60 * day, MaxAlertAge: 30 * day, LapseAfter: 180 * day, ForgetAfter: 800 * day, QuietAfterOutcome: 30 * day, Together: true},
		Cohorts:     Cohorts{Enabled: true, By: []string{"segment", "region", "product", "owner"}, FalseAlarms: 0.5, LeastMembers: 5, HoldBack: true, Totals: true, Intakes: true},
		Stall:       Stall{After: Duration(15 * time.Minute), ExpectedRecords: 30},
		DeadLetters: DeadLetters{BlindRatio: 0.01, BlindMin: 10, StopRatio: 0.20, StopMin: 100, MaxRecordBytes: 1 << 20},
		Cut: Cut{
			MaxBytes:             16e6,
			MaxEvents:            1_000_000,
			MaxAge:               Duration(10 * time.Second),
			AlertLinger:          Duration(2 * time.Millisecond),
			TransactionTimeout:   Duration(time.Minute),
			TransactionsInFlight: 4,
			Compression:          "lz4",
		},
		Fetch: Fetch{
			MaxWait: Duration(500 * time.Millisecond), Buffer: 64e6, Reserved: 256e3, MaxBytes: 8e6, PartitionMaxBytes: 1e6,
		},
		Membership: Membership{
			SessionTimeout:   Duration(10 * time.Second),
			RebalanceTimeout: Duration(15 * time.Second),
			Heartbeat:        Duration(500 * time.Millisecond),
			Drain:            Duration(3 * time.Second),
		},
		HTTP: HTTP{Listen: "127.0.0.1:9464", Console: true},
		Log:  Log{Level: "info", Format: "text"},
	}
}

// Keyed lists the feeds that are keyed by customer: their partitions are the tasks'.
func (f Feeds) Keyed() []Named {
	return slices.DeleteFunc(f.Read(), func(n Named) bool { return n.Reroute })
}

// Named is a feed with its role.
type Named struct {
	Role event.Feed
	Feed
}

// Read lists the feeds that are read, in the order of their roles.
func (f Feeds) Read() []Named {
	all := []Named{
		{event.Usage, f.Usage},
		{event.Payments, f.Payments},
		{event.Complaints, f.Complaints},
		{event.Customers, f.Customers},
		{event.Control, f.Control},
	}
	return slices.DeleteFunc(all, func(n Named) bool { return n.Topic == "" })
}
