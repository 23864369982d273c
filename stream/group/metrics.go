package group

import "github.com/prometheus/client_golang/prometheus"

// Metrics of the membership of one instance.
type Metrics struct {
	generations prometheus.Counter
	joinErrors  prometheus.Counter
	partitions  prometheus.Gauge
}

// NewMetrics makes and registers the metrics. With a nil registerer they are counted for nobody.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		generations: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ebb_group_generations_total", Help: "Generations of the consumer group that this instance took part in.",
		}),
		joinErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ebb_group_join_errors_total", Help: "Failed attempts to join the consumer group.",
		}),
		partitions: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ebb_group_partitions", Help: "Partitions assigned to this instance.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.generations, m.joinErrors, m.partitions)
	}
	return m
}
