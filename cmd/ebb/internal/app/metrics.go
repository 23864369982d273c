package app

import (
	"cmp"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"ebb/cmd/ebb/internal/cli"
)

// Registerer takes metrics.
type Registerer = prometheus.Registerer

// Gatherer gives them.
type Gatherer = prometheus.Gatherer

// newRegistry is a registry with what every Go program shows, and the build.
func newRegistry(version string) (*prometheus.Registry, error) {
	reg := prometheus.NewRegistry()
	built := cli.BuildVersion()
	build := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "ebb_build_info", Help: "Always 1; the labels tell what runs.",
		ConstLabels: prometheus.Labels{"version": version, "revision": cmp.Or(built.Commit, "unknown"), "goversion": built.Go},
	}, func() float64 { return 1 })
	reload := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "ebb_config_last_reload_successful", Help: "1 when the configuration that runs is the one that was last read.",
	})
	reload.Set(1)
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), build, reload,
	} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return reg, nil
}

// metrics serves those of the engine that runs now.
func (p *Page) metrics(w http.ResponseWriter, r *http.Request) {
	g := p.gatherer.Load()
	if g == nil {
		http.Error(w, "starting", http.StatusServiceUnavailable)
		return
	}
	promhttp.HandlerFor(*g, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: 4, Timeout: 10 * time.Second}).ServeHTTP(w, r)
}
