package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"ebb/cmd/ebb/internal/config"
	"ebb/stream/conn"
)

// Run is `ebb run`: it works until ctx ends and then stops cleanly.
func Run(ctx context.Context, cfg *config.Config, version string, o Outside) error {
	connection := cfg.Connection()
	connection.Dial = o.Dial
	cluster, err := conn.New(connection)
	if err != nil {
		return err
	}
	defer cluster.Close()
	reg, err := newRegistry(version)
	if err != nil {
		return err
	}
	src, err := newSource(cfg, version, o)
	if err != nil {
		return err
	}
	page, err := NewPage(ctx, cfg, src, o)
	if err != nil {
		return err
	}
	engine, err := NewEngine(ctx, cfg, cluster, reg, o)
	if ctx.Err() != nil { // told to stop before there was anything to stop
		if engine != nil {
			err = engine.Close()
		} else {
			err = nil
		}
		o.Log.Info("stopped before the start was complete")
		return errors.Join(err, page.abandon())
	}
	if err != nil {
		return errors.Join(err, page.abandon())
	}
	defer func() {
		if err := engine.Close(); err != nil {
			o.Log.Warn("closing the state directory", "err", err)
		}
	}()
	hooks, err := webhooks(cfg, cluster, engine, reg, o)
	if err != nil {
		return errors.Join(err, page.abandon())
	}
	var beside group
	beside.ctx, beside.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if page != nil {
		page.Show(engine, reg)
		o.Log.Info("page and metrics", "url", "http://"+page.Addr())
		beside.start("page", o.Log, page.Run)
		if page.console != nil {
			beside.start("page's view of the alerts", o.Log, func(ctx context.Context) error { return page.Follow(ctx, cfg, cluster, o.Now, nil) })
		}
	}
	for _, h := range hooks {
		beside.start("webhook", o.Log, h.Run)
	}
	o.Log.Info("ebb is running", "version", version, "group", cfg.Group, "brokers", cfg.Brokers, "state", cfg.State.Dir, "config", cfg.Hash())
	err = engine.Run(ctx)
	beside.stop()
	if err == nil {
		o.Log.Info("stopped; everything in flight is committed")
	}
	return err
}

func newSource(cfg *config.Config, version string, o Outside) (*source, error) {
	r, err := rates(cfg.Money)
	if err != nil {
		return nil, fmt.Errorf("money: %w", err)
	}
	zone, err := time.LoadLocation(cfg.Time.Zone)
	if err != nil {
		return nil, fmt.Errorf("time.zone: %w", err)
	}
	return &source{cfg: cfg, rates: r, zone: zone, who: hostname(), build: version, now: o.Now}, nil
}

// hostname is what this instance is called on pages and in operational alerts.
func hostname() string {
	host, err := os.Hostname()
	if err != nil {
		return "unknown host"
	}
	return host
}
