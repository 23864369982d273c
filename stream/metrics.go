package stream

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/state/customer"
	"ebb/stream/event"
)

// Registerer takes the metrics of an instance.
type Registerer = prometheus.Registerer

// metrics are those of one instance. Names are a contract: a rename is a breaking change. Labels are bounded: feeds, reasons,
// partitions and detectors, never customers.
type metrics struct {
	consumed      *prometheus.CounterVec
	ignored       *prometheus.CounterVec
	letters       *prometheus.CounterVec
	notes         *prometheus.CounterVec
	outcomes      *prometheus.CounterVec
	gaps          *prometheus.CounterVec
	rerouted      *prometheus.CounterVec
	rerouteHeld   *prometheus.GaugeVec
	rerouteLag    *prometheus.GaugeVec
	rerouteForced prometheus.Counter
	rerouteMissed prometheus.Counter
	lagRecords    *prometheus.GaugeVec
	lagSeconds    *prometheus.GaugeVec
	steps         *prometheus.CounterVec
	operations    *prometheus.CounterVec
	eventToAlert  prometheus.Histogram
	timerLateness prometheus.Histogram
	timersFired   prometheus.Counter
	transactions  *prometheus.CounterVec
	txnSeconds    prometheus.Histogram
	restore       *prometheus.GaugeVec
	restored      prometheus.Counter
	standbyLag    *prometheus.GaugeVec
	standbys      prometheus.Gauge
	setAside      prometheus.Counter
	stopped       *prometheus.GaugeVec
	clock         *prometheus.GaugeVec
	stageFiring   *prometheus.GaugeVec
	stageLag      *prometheus.GaugeVec
	modelEpoch    prometheus.Gauge
	modelGap      prometheus.Gauge
	cycles        *prometheus.HistogramVec
	modelsMissed  prometheus.Counter
}

// latencyBuckets are for times from a millisecond to a minute, in seconds; native buckets of factor 1.1 beside them.
var latencyBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// cycleBuckets are from a quarter of an hour to two months, in seconds.
var cycleBuckets = []float64{900, 3600, 4 * 3600, 8 * 3600, 86400, 2 * 86400, 4 * 86400, 7 * 86400, 14 * 86400, 30 * 86400, 60 * 86400}

// cycle counts a matter that is over.
func (m *metrics) cycle(y *detectors.Cycle, tier string) {
	priority := y.Priority.String()
	if y.Priority == event.PriorityNone {
		priority = "inquiry"
	}
	for _, part := range [...]struct {
		name string
		ms   int64
	}{{"customer", y.Customer}, {"agent", y.Agent}, {"other_group", y.Other}, {"out_of_hours", y.OutOfHours}, {"all", y.To - y.From}} {
		m.cycles.WithLabelValues(priority, tier, part.name).Observe(float64(part.ms) / 1000)
	}
}

func histogram(name, help string) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: latencyBuckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160,
	})
}

func newMetrics(reg prometheus.Registerer, feeds []FeedConfig) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		consumed:      counter("ebb_records_consumed_total", "Records taken from a feed, dead letters and ignored ones included.", "feed"),
		ignored:       counter("ebb_records_ignored_total", "Records that the mapping of a feed ignores.", "feed"),
		letters:       counter("ebb_dead_letters_total", "Records sent to the dead-letter topic.", "feed", "reason"),
		notes:         counter("ebb_record_notes_total", "Oddities of records that were applied all the same.", "feed", "note"),
		outcomes:      counter("ebb_record_outcomes_total", "Records that did not simply change their customer: repeated, too old, beyond a cap.", "feed", "outcome"),
		gaps:          counter("ebb_retention_gap_records_total", "Records that a topic's retention removed before they were read: lost.", "feed"),
		rerouted:      counter("ebb_records_rerouted_total", "Records forwarded to the task that they belong to, by the feed that they came from.", "feed"),
		rerouteHeld:   gauge("ebb_reroute_held_bytes", "Forwarded records that wait for their turn.", "partition"),
		rerouteLag:    gauge("ebb_reroute_lag_records", "Offsets of the reroute topic between what is applied and its end; what tasks tell each other counts too.", "partition"),
		rerouteForced: prometheus.NewCounter(prometheus.CounterOpts{Name: "ebb_reroute_forced_total", Help: "Forwarded records that were applied before their turn, because the buffer for them was full."}),
		rerouteMissed: prometheus.NewCounter(prometheus.CounterOpts{Name: "ebb_reroute_given_up_total", Help: "Times that a task no longer waited for another one that forwards to it; its later records count as late."}),
		lagRecords:    gauge("ebb_consumer_lag_records", "Offsets between what is applied and the end of the feed.", "feed", "partition"),
		lagSeconds:    gauge("ebb_consumer_lag_seconds", "Event time between the wall clock and the newest applied record while records are waiting; 0 at the end of the feed.", "feed", "partition"),
		steps:         counter("ebb_alert_steps_total", "Alert steps published.", "detector", "severity", "step"),
		operations:    counter("ebb_operational_steps_total", "Operational alert steps published.", "kind", "step"),
		eventToAlert:  histogram("ebb_event_to_alert_seconds", "From the time of a live event to the commit of the alert step that it caused."),
		timerLateness: histogram("ebb_timer_lateness_seconds", "How late deadlines were decided after their time, while live."),
		timersFired:   prometheus.NewCounter(prometheus.CounterOpts{Name: "ebb_timers_fired_total", Help: "Deadlines decided."}),
		transactions:  counter("ebb_transactions_total", "Transactions by result.", "result"),
		txnSeconds:    histogram("ebb_transaction_duration_seconds", "From the beginning of a cut to the answer of its commit."),
		restore:       gauge("ebb_restore_remaining_records", "Changelog offsets that are still to be replayed.", "partition"),
		restored:      prometheus.NewCounter(prometheus.CounterOpts{Name: "ebb_restored_records_total", Help: "Changelog records that were replayed, by tasks and copies."}),
		standbyLag:    gauge("ebb_standby_lag_records", "Changelog offsets that a standby copy of this instance is behind.", "partition"),
		standbys:      prometheus.NewGauge(prometheus.GaugeOpts{Name: "ebb_standby_partitions", Help: "Partitions of which this instance follows the changelog without owning them."}),
		setAside:      prometheus.NewCounter(prometheus.CounterOpts{Name: "ebb_state_set_aside_total", Help: "Local copies that did not open and were set aside."}),
		stopped:       gauge("ebb_task_stopped", "1 for a partition whose task stopped for a fault that somebody has to mend.", "partition"),
		clock:         gauge("ebb_task_clock_timestamp_seconds", "The task's clock, event time.", "partition"),
	}
	m.stageFiring = gauge("ebb_operational_alerts_firing", "Operational alerts of the whole group that are open. Only the instance that runs the second stage has it.", "kind")
	m.stageLag = gauge("ebb_facts_lag_records", "Offsets between what the second stage has folded and the end of the facts. Only the instance that runs it has it.")
	m.modelEpoch = prometheus.NewGauge(prometheus.GaugeOpts{Name: "ebb_model_epoch_timestamp_seconds", Help: "Event time up to which the model of the population was learnt, 0 while there is none."})
	m.modelGap = prometheus.NewGauge(prometheus.GaugeOpts{Name: "ebb_model_median_gap_days", Help: "Median of the customers' newest gaps between two days on which they came, in days, as the newest model knows it; 0 while there is none. alerts.horizon should be three times as long or longer."})
	m.modelsMissed = prometheus.NewCounter(prometheus.CounterOpts{Name: "ebb_models_missed_total", Help: "Times that a task reading history no longer waited for what the second stage tells: the model of the population, or the judgement of cohorts."})
	m.cycles = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "ebb_complaint_cycle_seconds",
		Help:    "Where the time of a customer's matter went that is over, from his first question to his content: waiting for him, for the group that had it first, for another, or out of hours.",
		Buckets: cycleBuckets, NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160,
	}, []string{"priority", "tier", "part"})
	m.zero(feeds)
	return m, m.register(reg)
}

func (m *metrics) register(reg prometheus.Registerer) error {
	var err error
	for _, c := range []prometheus.Collector{
		m.consumed, m.ignored, m.letters, m.notes, m.outcomes, m.gaps, m.rerouted, m.rerouteHeld, m.rerouteLag, m.rerouteForced, m.rerouteMissed, m.lagRecords, m.lagSeconds, m.steps, m.operations,
		m.eventToAlert, m.timerLateness, m.timersFired, m.transactions, m.txnSeconds,
		m.restore, m.restored, m.standbyLag, m.standbys, m.setAside, m.stopped, m.clock, m.stageFiring, m.stageLag, m.modelEpoch, m.modelGap, m.modelsMissed, m.cycles,
	} {
		err = errors.Join(err, reg.Register(c))
	}
	return err
}

// zero creates the children of the configured feeds, so that a rule sees 0 instead of nothing.
func (m *metrics) zero(feeds []FeedConfig) {
	for _, f := range feeds {
		feed := f.Feed.String()
		m.consumed.WithLabelValues(feed)
		m.gaps.WithLabelValues(feed)
		m.rerouted.WithLabelValues(feed)
		for _, r := range event.Reasons() {
			m.letters.WithLabelValues(feed, string(r))
		}
	}
	m.transactions.WithLabelValues("committed")
	m.transactions.WithLabelValues("failed")
}

func partitionLabel(p int32) string { return strconv.Itoa(int(p)) }

// drop forgets the series of a partition that went to another instance.
func (m *metrics) drop(partition int32) {
	l := prometheus.Labels{"partition": strconv.Itoa(int(partition))}
	for _, v := range []*prometheus.GaugeVec{m.lagRecords, m.lagSeconds, m.rerouteHeld, m.rerouteLag, m.restore, m.stopped, m.clock} {
		v.DeletePartialMatch(l)
	}
}

// taskMetrics are the children that one task uses, resolved once.
type taskMetrics struct {
	*metrics
	consumed         [event.NumFeeds]prometheus.Counter
	ignored          [event.NumFeeds]prometheus.Counter
	lag              [event.NumFeeds]prometheus.Gauge
	lagSeconds       [event.NumFeeds]prometheus.Gauge
	rerouted         [event.NumFeeds]prometheus.Counter
	rerouteHeld      prometheus.Gauge
	rerouteLag       prometheus.Gauge
	restoreRemaining prometheus.Gauge
	stopped          prometheus.Gauge
	clock            prometheus.Gauge
}

func (m *metrics) task(partition int32, feeds []FeedConfig) *taskMetrics {
	p := strconv.Itoa(int(partition))
	t := &taskMetrics{
		metrics: m, rerouteHeld: m.rerouteHeld.WithLabelValues(p), rerouteLag: m.rerouteLag.WithLabelValues(p), restoreRemaining: m.restore.WithLabelValues(p), stopped: m.stopped.WithLabelValues(p), clock: m.clock.WithLabelValues(p),
	}
	for _, c := range feeds {
		f, feed := c.Feed, c.Feed.String()
		t.consumed[f] = m.consumed.WithLabelValues(feed)
		t.ignored[f] = m.ignored.WithLabelValues(feed)
		t.rerouted[f] = m.rerouted.WithLabelValues(feed)
		t.lag[f] = m.lagRecords.WithLabelValues(feed, p)
		t.lagSeconds[f] = m.lagSeconds.WithLabelValues(feed, p)
	}
	return t
}

// stageName stands in the place of a partition in what is said of the second stage.
const stageName = "facts"

// stageStopped says that the second stage stopped for a fault that somebody has to mend.
func (m *metrics) stageStopped() { m.stopped.WithLabelValues(stageName).Set(1) }

// firing shows how many operational alerts are open.
func (m *metrics) firing(open map[alerts.OperationalKind]int) {
	for kind, n := range open {
		m.stageFiring.WithLabelValues(string(kind)).Set(float64(n))
	}
}

func (m *metrics) factsLag(offsets int64) { m.stageLag.WithLabelValues().Set(float64(offsets)) }

// dropStage forgets the series of the second stage, which another instance runs now.
func (m *metrics) dropStage() {
	m.stageFiring.Reset()
	m.stageLag.Reset()
	m.stopped.DeleteLabelValues(stageName)
}

func (t *taskMetrics) deadLetter(f event.Feed, r event.Reason) {
	t.letters.WithLabelValues(f.String(), string(r)).Inc()
}

func (t *taskMetrics) gap(feed string, records int64) {
	t.gaps.WithLabelValues(feed).Add(float64(records))
}

func (m *metrics) transaction(result string, took time.Duration) {
	m.transactions.WithLabelValues(result).Inc()
	m.txnSeconds.Observe(took.Seconds())
}

func (t *taskMetrics) step(s stepSeen) {
	t.steps.WithLabelValues(s.detector, s.severity.String(), s.kind.String()).Inc()
}

// note counts what was odd about a record that was applied.
func (t *taskMetrics) note(f event.Feed, n event.Notes, o customer.Outcome) {
	if n != 0 {
		for i, name := range event.NoteNames() {
			if n&(1<<i) != 0 {
				t.notes.WithLabelValues(f.String(), name).Inc()
			}
		}
	}
	if o != customer.Applied {
		for i, name := range customer.OutcomeNames() {
			if o&(1<<i) != 0 {
				t.outcomes.WithLabelValues(f.String(), name).Inc()
			}
		}
	}
}

// standing shows what the tasks' tallies say, at the time of the scrape.
type standing struct {
	tasks    func() []TaskStatus
	feeds    []FeedConfig
	currency string
}

var (
	firingDesc    = prometheus.NewDesc("ebb_alerts_firing", "Customer alerts that are open in the partitions of this instance.", []string{"detector", "severity", "tier"}, nil)
	atRiskDesc    = prometheus.NewDesc("ebb_money_at_risk", "Money at risk over the open alerts of this instance, in units of the currency. A customer counts once, with the greatest of his alerts.", []string{"currency", "tier"}, nil)
	customersDesc = prometheus.NewDesc("ebb_customers", "Customers in the partitions of this instance by stage: warming_up, active, lapsed, blind or quarantined.", []string{"stage"}, nil)
	activeDesc    = prometheus.NewDesc("ebb_active_customers", "Active customers in the partitions of this instance by the stage that an alert about them would name: new, growing, mature or declining.", []string{"stage"}, nil)
	outcomesDesc  = prometheus.NewDesc("ebb_alert_outcomes_total", "Alerts whose horizon has passed, by what became of them: right or wrong as computed, unknown where records are missing, else as people said.", []string{"detector", "severity", "tier", "result"}, nil)
	precisionDesc = prometheus.NewDesc("ebb_alert_precision", "Part of the judged alerts of this instance's partitions that were right, or saved a customer.", []string{"detector"}, nil)
	foretoldDesc  = prometheus.NewDesc("ebb_predictions_total", "Foretold probabilities of which it is known what came, by their range and by whether it came.", []string{"detector", "bucket", "result"}, nil)
	foretoldSum   = prometheus.NewDesc("ebb_predicted_probability_sum", "Sum of these probabilities: divided by their number, what should have come.", []string{"detector", "bucket"}, nil)
	leadDesc      = prometheus.NewDesc("ebb_alert_lead_days", "How many days before it would have been plain (a horizon after the condition began) an alert came that was right.", []string{"detector"}, nil)
	stalledDesc   = prometheus.NewDesc("ebb_feed_stalled", "1 while the feed is silent against its own rhythm, or cannot be read, in any partition of this instance.", []string{"feed"}, nil)
	blindDesc     = prometheus.NewDesc("ebb_feed_blind", "1 while too many of the feed's records are dead letters to judge its customers, in any partition of this instance.", []string{"feed"}, nil)
	latenessDesc  = prometheus.NewDesc("ebb_feed_lateness_seconds", "How late the feed's latest records came after their event time, a decaying maximum.", []string{"feed"}, nil)
)

// Describe implements prometheus.Collector.
func (s standing) Describe(c chan<- *prometheus.Desc) {
	c <- firingDesc
	c <- atRiskDesc
	c <- customersDesc
	c <- activeDesc
	c <- outcomesDesc
	c <- precisionDesc
	c <- foretoldDesc
	c <- foretoldSum
	c <- leadDesc
	c <- stalledDesc
	c <- blindDesc
	c <- latenessDesc
}

// Collect implements prometheus.Collector.
func (s standing) Collect(c chan<- prometheus.Metric) {
	tasks := s.tasks()
	s.collectFeeds(c, tasks)
	collectVerdicts(c, VerdictsOf(tasks))
	firing, atRisk, stages := map[[3]string]float64{}, map[string]event.Money{}, map[string]float64{}
	for _, t := range tasks {
		for _, o := range t.Open {
			firing[[3]string{o.Detector, o.Severity.String(), o.Tier}] += float64(o.Count)
			atRisk[o.Tier] += o.AtRisk
		}
		for name, n := range t.Stages {
			stages[name] += float64(n)
		}
	}
	for k, n := range firing {
		c <- prometheus.MustNewConstMetric(firingDesc, prometheus.GaugeValue, n, k[:]...)
	}
	for tier, n := range atRisk {
		c <- prometheus.MustNewConstMetric(atRiskDesc, prometheus.GaugeValue, float64(n)/float64(event.MoneyUnit), s.currency, tier)
	}
	active := 0.0
	for i := range numStages {
		name := countedName(i)
		n := stages[name]
		if i < detectors.NumStages && detectors.Stage(i).Active() {
			c <- prometheus.MustNewConstMetric(activeDesc, prometheus.GaugeValue, n, name)
			active += n
			continue
		}
		c <- prometheus.MustNewConstMetric(customersDesc, prometheus.GaugeValue, n, name)
	}
	c <- prometheus.MustNewConstMetric(customersDesc, prometheus.GaugeValue, active, "active")
}

// collectVerdicts shows what became of alerts. The counts are of the partitions that this instance has now: they move with them.
func collectVerdicts(c chan<- prometheus.Metric, v Verdicts) {
	for _, r := range v.Results {
		c <- prometheus.MustNewConstMetric(outcomesDesc, prometheus.CounterValue, float64(r.Count), r.Detector, r.Severity.String(), r.Tier, r.Result.String())
	}
	for detector, p := range v.Precision() {
		c <- prometheus.MustNewConstMetric(precisionDesc, prometheus.GaugeValue, float64(p.Founded)/float64(p.Judged), detector)
	}
	for _, b := range v.Buckets {
		name := fmt.Sprintf("%.1f", float64(b.Bucket)/calibrationBuckets)
		c <- prometheus.MustNewConstMetric(foretoldDesc, prometheus.CounterValue, float64(b.Came), b.Detector, name, "came")
		c <- prometheus.MustNewConstMetric(foretoldDesc, prometheus.CounterValue, float64(b.Foretold-b.Came), b.Detector, name, "did_not_come")
		c <- prometheus.MustNewConstMetric(foretoldSum, prometheus.CounterValue, b.Mean*float64(b.Foretold), b.Detector, name)
	}
	for _, l := range v.Leads {
		c <- prometheus.MustNewConstHistogram(leadDesc, l.Count, l.Sum, l.Counts, l.Detector)
	}
}

// collectFeeds shows the worst of a feed's partitions: one that recovers does not speak for the others.
func (s standing) collectFeeds(c chan<- prometheus.Metric, tasks []TaskStatus) {
	var stalled, blind, late [event.NumFeeds]float64
	for _, t := range tasks {
		for i := range t.Feeds {
			f := &t.Feeds[i]
			if !f.Stalled.IsZero() {
				stalled[f.Feed] = 1
			}
			if !f.Blind.IsZero() {
				blind[f.Feed] = 1
			}
			late[f.Feed] = max(late[f.Feed], f.Lateness.Seconds())
		}
	}
	for _, f := range s.feeds {
		feed := f.Feed.String()
		c <- prometheus.MustNewConstMetric(stalledDesc, prometheus.GaugeValue, stalled[f.Feed], feed)
		c <- prometheus.MustNewConstMetric(blindDesc, prometheus.GaugeValue, blind[f.Feed], feed)
		c <- prometheus.MustNewConstMetric(latenessDesc, prometheus.GaugeValue, late[f.Feed], feed)
	}
}
