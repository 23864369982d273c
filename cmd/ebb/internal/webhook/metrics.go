package webhook

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of all webhooks of an instance.
type Metrics struct {
	deliveries *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	pending    *prometheus.GaugeVec
	lost       *prometheus.CounterVec
}

// NewMetrics registers them with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ebb_webhook_deliveries_total",
			Help: "Attempts to deliver an alert step, by result: delivered, failed (tried again), refused (given up; it stays on the topic).",
		}, []string{"webhook", "result"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "ebb_webhook_request_duration_seconds",
			Help:    "Time of one request to a webhook's receiver.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"webhook"}),
		pending: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ebb_webhook_pending_records",
			Help: "Alert steps read from the topic and not delivered yet.",
		}, []string{"webhook"}),
		lost: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ebb_webhook_lost_records_total",
			Help: "Offsets that the alert topic's retention deleted before they were delivered.",
		}, []string{"webhook"}),
	}
	reg.MustRegister(m.deliveries, m.duration, m.pending, m.lost)
	return m
}

// children are one webhook's, resolved once so that zero is visible and the path looks nothing up.
type children struct {
	delivered, failed, refused prometheus.Counter
	pending                    prometheus.Gauge
	duration                   prometheus.Observer
}

func (m *Metrics) of(webhook string) *children {
	m.lost.WithLabelValues(webhook)
	return &children{
		delivered: m.deliveries.WithLabelValues(webhook, "delivered"),
		failed:    m.deliveries.WithLabelValues(webhook, "failed"),
		refused:   m.deliveries.WithLabelValues(webhook, "refused"),
		pending:   m.pending.WithLabelValues(webhook),
		duration:  m.duration.WithLabelValues(webhook),
	}
}

// timer starts measuring a request; the returned function ends it.
func (c *children) timer(now func() time.Time) (observe func()) {
	began := now()
	return func() { c.duration.Observe(now().Sub(began).Seconds()) }
}
