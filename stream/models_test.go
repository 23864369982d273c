package stream

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"ebb/detectors/population"
	"ebb/detectors/population/populationtest"
)

// How often customers come is a metric, and a horizon that is too short for it is pointed out once.
func TestAHorizonTooShortIsToldOnce(t *testing.T) {
	metrics, err := newMetrics(prometheus.NewRegistry(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for horizon, warned := range map[int]int{60: 0, 10: 1} {
		var log bytes.Buffer
		m := &models{e: &Engine{m: metrics, log: slog.New(slog.NewTextHandler(&log, nil))}}
		all := []epochModel{{epoch: 7, model: populationtest.Weekly(population.Config{Horizon: horizon}, 20_000)}}
		m.all.Store(&all)
		m.measure()
		m.measure()
		if n := testutil.ToFloat64(metrics.modelGap); n < 5 || n > 9 {
			t.Errorf("the usual gap is told as %v days, though these customers come every 5 to 9", n)
		}
		if n := strings.Count(log.String(), "alerts.horizon is short"); n != warned {
			t.Errorf("a horizon of %d days is pointed out %d times, want %d", horizon, n, warned)
		}
	}
	m := &models{e: &Engine{m: metrics, log: slog.New(slog.DiscardHandler)}}
	m.all.Store(&[]epochModel{{epoch: 7}}) // nothing was learnt: the newest figure stays
	m.measure()
}
