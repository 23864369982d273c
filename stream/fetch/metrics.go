package fetch

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"ebb/stream/batch"
	"ebb/stream/conn"
)

// Metrics counts what fetchers do. A nil one counts nothing. One for all fetchers of a process.
type Metrics struct {
	tail, bulk prometheus.Counter
	bytes      prometheus.Counter
	errors     map[string]prometheus.Counter
	buffer     prometheus.Gauge
	open       prometheus.Gauge
}

// NewMetrics registers the metrics of fetching.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ebb_fetch_requests_total", Help: "Fetch requests answered, by connection: tail long-polls partitions at their end, bulk serves those behind.",
	}, []string{"connection"})
	failures := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ebb_fetch_errors_total", Help: "Failed fetches, of a request or of one partition in it, by class.",
	}, []string{"class"})
	m := &Metrics{
		tail: requests.WithLabelValues("tail"), bulk: requests.WithLabelValues("bulk"),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ebb_fetch_bytes_total", Help: "Bytes of record batches received, as compressed by their producers.",
		}),
		errors: map[string]prometheus.Counter{},
		buffer: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ebb_fetch_buffer_bytes", Help: "Memory held by fetched records, and reserved for answers under way.",
		}),
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ebb_fetch_partitions", Help: "Partitions being read.",
		}),
	}
	for _, c := range append(conn.Classes(), corrupt) {
		m.errors[c] = failures.WithLabelValues(c)
	}
	reg.MustRegister(requests, failures, m.bytes, m.buffer, m.open)
	return m
}

func (m *Metrics) requested(tail bool) {
	switch {
	case m == nil:
	case tail:
		m.tail.Inc()
	default:
		m.bulk.Inc()
	}
}

func (m *Metrics) received(n int) {
	if m != nil {
		m.bytes.Add(float64(n))
	}
}

func (m *Metrics) failed(err error) {
	if m != nil {
		m.errors[class(err)].Inc()
	}
}

const corrupt = "corrupt"

func class(err error) string {
	var gap *ErrRetentionGap
	var beyond *ErrBeyondEnd
	switch {
	case errors.Is(err, batch.ErrCorrupt):
		return corrupt
	case errors.As(err, &gap), errors.As(err, &beyond):
		return "offset"
	}
	return conn.Class(err)
}

func (m *Metrics) buffered(n int) {
	if m != nil {
		m.buffer.Add(float64(n))
	}
}

func (m *Metrics) partitions(n int) {
	if m != nil {
		m.open.Add(float64(n))
	}
}
