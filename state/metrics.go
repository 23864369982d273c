package state

import (
	"math"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are those of an instance's local state.
type Metrics struct {
	entries, bytes, pending, size *prometheus.GaugeVec
	loads, evictions              prometheus.Counter
	flushSeconds                  prometheus.Histogram
	flushedKeys                   prometheus.Counter
	reg                           prometheus.Registerer
}

// NewMetrics registers the metrics. It panics if they are registered already.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		entries: partitionGauge("ebb_state_cache_customers", "Customers that are decoded in memory."),
		bytes:   partitionGauge("ebb_state_cache_bytes", "Estimated memory of the customers that are decoded in memory."),
		pending: partitionGauge("ebb_state_pending_bytes", "Memory of committed changes that are not yet in the local store."),
		size:    partitionGauge("ebb_state_store_bytes", "Size of the local store on disk."),
		loads: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ebb_state_loads_total", Help: "Customers looked up in the local store because they were not in memory.",
		}),
		evictions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ebb_state_evictions_total", Help: "Customers evicted from memory.",
		}),
		flushSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ebb_state_flush_duration_seconds", Help: "Time to write committed changes to the local store.",
			Buckets:                     []float64{0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30},
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160,
		}),
		flushedKeys: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ebb_state_flushed_customers_total", Help: "Customers written to the local store.",
		}),
		reg: reg,
	}
	reg.MustRegister(m.entries, m.bytes, m.pending, m.size, m.loads, m.evictions, m.flushSeconds, m.flushedKeys)
	return m
}

func partitionGauge(name, help string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"partition"})
}

// watchDisk registers the metrics of a state directory, asked at each scrape, and returns what takes them back.
func (m *Metrics) watchDisk(free func() (int64, error), reserve int64) (forget func()) {
	left := func() float64 {
		n, err := free()
		if err != nil {
			return math.NaN()
		}
		return float64(n)
	}
	watched := []prometheus.Collector{
		gaugeFunc("ebb_disk_free_bytes", "Free space on the disk of the state directory.", left),
		gaugeFunc("ebb_disk_reserve_bytes", "Free space below which the local store is not written.",
			func() float64 { return float64(reserve) }),
		gaugeFunc("ebb_disk_reserve_active", "1 while the local store is not written because free space is below the reserve.", func() float64 {
			if left() < float64(reserve) {
				return 1
			}
			return 0
		}),
	}
	m.reg.MustRegister(watched...)
	return func() {
		for _, c := range watched {
			m.reg.Unregister(c)
		}
	}
}

func gaugeFunc(name, help string, f func() float64) prometheus.GaugeFunc {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
}

// Task returns the metrics of one task. They disappear when its table is closed.
func (m *Metrics) Task(partition int32) *TaskMetrics {
	p := strconv.Itoa(int(partition))
	t := &TaskMetrics{
		entries: m.entries.WithLabelValues(p), bytes: m.bytes.WithLabelValues(p),
		pending: m.pending.WithLabelValues(p), storeBytes: m.size.WithLabelValues(p),
		loads: m.loads, evictions: m.evictions, flushSeconds: m.flushSeconds, flushedKeys: m.flushedKeys,
	}
	t.close = func() {
		for _, v := range []*prometheus.GaugeVec{m.entries, m.bytes, m.pending, m.size} {
			v.DeleteLabelValues(p)
		}
	}
	return t
}

// TaskMetrics are the metrics of one task, its label values resolved once.
type TaskMetrics struct {
	entries, bytes, pending, storeBytes prometheus.Gauge
	loads, evictions, flushedKeys       prometheus.Counter
	flushSeconds                        prometheus.Histogram
	close                               func()
}

// newTaskMetrics returns metrics that nobody reads.
func newTaskMetrics() *TaskMetrics {
	return NewMetrics(prometheus.NewRegistry()).Task(0)
}

func (m *TaskMetrics) set(customers int, bytes, pending int64) {
	m.entries.Set(float64(customers))
	m.bytes.Set(float64(bytes))
	m.pending.Set(float64(pending))
}
