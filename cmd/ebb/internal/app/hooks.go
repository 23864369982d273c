package app

import (
	"net/http"
	"sync"

	"ebb/cmd/ebb/internal/config"
	"ebb/cmd/ebb/internal/webhook"
	"ebb/stream/conn"
	"ebb/stream/offsets"
)

// webhooks builds the configured sinks. Of several instances the owner of partition 0 delivers.
func webhooks(cfg *config.Config, cluster *conn.Cluster, engine *Engine, reg Registerer, o Outside) ([]*webhook.Sink, error) {
	if len(cfg.Webhooks) == 0 {
		return nil, nil
	}
	m := webhook.NewMetrics(reg)
	jitter := shared(o.Rand.Float64)
	sinks := make([]*webhook.Sink, 0, len(cfg.Webhooks))
	for i := range cfg.Webhooks {
		w := &cfg.Webhooks[i]
		headers := make(map[string]string, len(w.Headers))
		for k, v := range w.Headers {
			headers[k] = v.Value()
		}
		s, err := webhook.New(webhook.Config{
			Name: w.Name, URL: w.URL, Secrets: w.Secrets(), Headers: headers, Timeout: w.Timeout.Std(), InFlight: w.InFlight, MaxAttempts: w.MaxAttempts,
		}, webhook.Deps{
			Source:  webhook.NewTopic(cluster, cfg.Topics.Alerts, w.Name, m, o.Log),
			Offsets: offsets.New(cluster, cfg.Group+"-webhook-"+w.Name, cfg.Topics.Alerts),
			Mine:    func() bool { return engine.Owns(0) }, Transport: http.DefaultTransport, Now: o.Tick, Jitter: jitter, Log: o.Log, Metrics: m,
		})
		if err != nil {
			return nil, err
		}
		sinks = append(sinks, s)
	}
	return sinks, nil
}

// shared makes a source of randomness safe for concurrent use.
func shared(f func() float64) func() float64 {
	var mu sync.Mutex
	return func() float64 {
		mu.Lock()
		defer mu.Unlock()
		return f()
	}
}
