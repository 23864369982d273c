package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"time"

	"ebb/alerts"
	"ebb/cmd/ebb/internal/config"
	"ebb/detectors"
	"ebb/detectors/cohorts"
	"ebb/state"
	"ebb/state/customer"
	"ebb/stream"
	"ebb/stream/admin"
	"ebb/stream/conn"
	"ebb/stream/fetch"
	"ebb/stream/partition"
)

// Outside is what a process gives its graph: clocks, network, randomness, log.
type Outside struct {
	Now  func() time.Time // wall clock in event time
	Tick func() time.Time // clock of the process
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	Rand *rand.Rand
	Log  *slog.Logger
}

// Engine is one life of an instance: its state directory and its tasks.
type Engine struct {
	*stream.Engine
	dir *state.Dir
}

// NewEngine checks the topics, takes the state directory and builds the tasks' engine. Close must be called after Run.
func NewEngine(ctx context.Context, cfg *config.Config, cluster *conn.Cluster, reg Registerer, o Outside) (*Engine, error) {
	if err := prepareTopics(ctx, cfg, cluster, o.Log); err != nil {
		return nil, err
	}
	feed := cfg.Feeds.Keyed()[0].Topic
	topics, id, err := cluster.Topics(ctx, feed)
	if err != nil {
		return nil, fmt.Errorf("describe the cluster: %w", err)
	}
	tasks := len(topics[feed].Partitions)
	stateMetrics := state.NewMetrics(reg)
	dir, err := state.OpenDir(cfg.State.Dir, state.DirOptions{
		Cluster: id, Group: cfg.Group, Tasks: tasks, Now: o.Tick, Metrics: stateMetrics, Log: o.Log,
		Store: state.Options{ReserveBytes: int64(cfg.State.DiskReserve), Log: o.Log},
	})
	if err != nil {
		return nil, err
	}
	e, err := build(cfg, cluster, reg, stateMetrics, dir, o)
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return &Engine{Engine: e, dir: dir}, nil
}

// Close gives the state directory free.
func (e *Engine) Close() error { return e.dir.Close() }

// prepareTopics creates what is missing, if the configuration says so, and refuses to start on topics that are not fit.
func prepareTopics(ctx context.Context, cfg *config.Config, cluster *conn.Cluster, log *slog.Logger) error {
	if err := cluster.Check(ctx); err != nil {
		return err
	}
	var problems []admin.Problem
	var err error
	if cfg.Topics.Create {
		var created []string
		created, problems, err = admin.Create(ctx, cluster, cfg.TopicSpec())
		if len(created) > 0 {
			log.Info("topics created", "topics", created)
		}
	} else {
		problems, err = admin.Check(ctx, cluster, cfg.TopicSpec())
	}
	if err != nil {
		return err
	}
	var faults []error
	for _, p := range problems {
		if p.Severity == admin.Error {
			faults = append(faults, errors.New(p.String()))
			continue
		}
		log.Warn("topic settings", "where", p.Where, "what", p.What, "mend", p.Mend)
	}
	return errors.Join(faults...)
}

func build(cfg *config.Config, cluster *conn.Cluster, reg Registerer, sm *state.Metrics, dir *state.Dir, o Outside) (*stream.Engine, error) {
	sc, set, policy, err := parts(cfg)
	if err != nil {
		return nil, err
	}
	sc.Fetch.Now, sc.Fetch.Logger, sc.Fetch.Metrics = o.Now, o.Log, fetch.NewMetrics(reg)
	return stream.New(sc, stream.Deps{
		Cluster: cluster, Now: o.Now, Tick: o.Tick, Rand: o.Rand, Log: o.Log, Registry: reg,
		State: dir, StateMetrics: sm, Detectors: set, Policy: policy,
	})
}

// NewUpkeep is what the commands that change the state of a stopped group work with.
func NewUpkeep(ctx context.Context, cfg *config.Config, cluster *conn.Cluster, o Outside) (*stream.Upkeep, error) {
	sc, set, policy, err := parts(cfg)
	if err != nil {
		return nil, err
	}
	return stream.NewUpkeep(ctx, sc, stream.Deps{Cluster: cluster, Now: o.Now, Log: o.Log, Detectors: set, Policy: policy})
}

// detectorSet are the configured detectors.
func detectorSet(cfg *config.Config) (*detectors.Set, error) {
	rules := cfg.Detectors
	rules.Horizon = detectors.Duration(cfg.Alerts.Horizon.Std())
	rules.LapseAfter = detectors.Duration(cfg.Alerts.LapseAfter.Std())
	rules.KeptDays = cfg.State.KeptDays
	set, err := detectors.NewSet(rules)
	if err != nil {
		return nil, fmt.Errorf("detectors: %w", err)
	}
	return set, nil
}

// parts are the pieces that follow from the configuration alone.
func parts(cfg *config.Config) (stream.Config, *detectors.Set, *alerts.Policy, error) {
	set, err := detectorSet(cfg)
	if err != nil {
		return stream.Config{}, nil, nil, err
	}
	rates, err := rates(cfg.Money)
	if err != nil {
		return stream.Config{}, nil, nil, fmt.Errorf("money: %w", err)
	}
	policy := alerts.New(alerts.Config{
		Group: cfg.Group, ConfigHash: cfg.Hash(), Detectors: set, Currency: rates.Currency(), Horizon: detectors.Duration(cfg.Alerts.Horizon.Std()),
		MaxAlertAge: detectors.Duration(cfg.Alerts.MaxAlertAge.Std()), ForgetAfter: detectors.Duration(cfg.Alerts.ForgetAfter.Std()),
		RemindAfter: detectors.Duration(cfg.Alerts.RemindAfter.Std()), QuietAfterOutcome: detectors.Duration(cfg.Alerts.QuietAfterOutcome.Std()),
		Together: cfg.Alerts.Together,
	})
	sc, err := streamConfig(cfg, rates)
	sc.Population = set.Population()
	if c := &cfg.Cohorts; c.Enabled {
		sc.Cohorts = &cohorts.Config{FalseAlarms: c.FalseAlarms, LeastMembers: c.LeastMembers, By: c.Dimensions(), HoldBack: c.HoldBack, Totals: c.Totals, Intakes: c.Intakes}
	}
	return sc, set, policy, err
}

func rates(m config.Money) (*detectors.Rates, error) {
	table := make(map[string]string, len(m.Rates))
	for c, r := range m.Rates {
		table[c] = r
	}
	return detectors.NewRates(m.Currency, table)
}

func streamConfig(cfg *config.Config, rates *detectors.Rates) (stream.Config, error) {
	zone, err := time.LoadLocation(cfg.Time.Zone)
	if err != nil {
		return stream.Config{}, fmt.Errorf("time.zone: %w", err)
	}
	var check partition.Partitioner
	if cfg.Partitioner != "none" {
		if check, err = partition.Parse(cfg.Partitioner); err != nil {
			return stream.Config{}, fmt.Errorf("partitioner: %w", err)
		}
	}
	params := customer.DefaultParams(nil)
	params.KeptDays, params.MaxSeen, params.SeenFor = cfg.State.KeptDays, cfg.State.RememberedIDs, cfg.State.RememberedFor.Std().Milliseconds()
	sc := stream.Config{
		Instance: hostname(), Identity: identity(cfg), Group: cfg.Group, Quiet: cfg.History == "quiet", Check: check, Customer: params, Rates: rates,
		Topics: stream.Topics{
			Alerts: cfg.Topics.Alerts, OpenAlerts: cfg.Topics.OpenAlerts, Operations: cfg.Topics.Operations,
			Changelog: cfg.Topics.Changelog, DeadLetters: cfg.Topics.DeadLetters, Reroute: cfg.Topics.Reroute,
			Facts: cfg.Topics.Facts, FactsChangelog: cfg.Topics.FactsChangelog(),
		},
		Time: stream.TimeConfig{
			Zone: zone, MaxOutOfOrder: cfg.Time.MaxOutOfOrder.Std(), MaxFutureSkew: cfg.Time.MaxFutureSkew.Std(),
			Grace: cfg.Time.Grace.Std(), FeedUnreachableAfter: cfg.Time.FeedUnreachableAfter.Std(),
		},
		Stall:   stream.StallConfig{After: cfg.Stall.After.Std(), Expected: float64(cfg.Stall.ExpectedRecords)},
		Reroute: stream.RerouteConfig{Interval: cfg.Reroute.Interval.Std(), Buffer: int64(cfg.Reroute.Buffer)},
		Letters: stream.LetterConfig{
			BlindRatio: cfg.DeadLetters.BlindRatio, BlindMin: uint64(cfg.DeadLetters.BlindMin),
			StopRatio: cfg.DeadLetters.StopRatio, StopMin: uint64(cfg.DeadLetters.StopMin),
		},
		Cut: stream.CutConfig{
			MaxBytes: int64(cfg.Cut.MaxBytes), MaxEvents: cfg.Cut.MaxEvents, MaxAge: cfg.Cut.MaxAge.Std(), Linger: cfg.Cut.AlertLinger.Std(),
			InFlight: cfg.Cut.TransactionsInFlight, Timeout: cfg.Cut.TransactionTimeout.Std(), Codec: cfg.Cut.Compression,
		},
		Membership: stream.GroupConfig{
			Session: cfg.Membership.SessionTimeout.Std(), Rebalance: cfg.Membership.RebalanceTimeout.Std(),
			Heartbeat: cfg.Membership.Heartbeat.Std(), Drain: cfg.Membership.Drain.Std(),
			Standby: cfg.Standby,
		},
		Fetch: fetch.Config{
			MaxWait: cfg.Fetch.MaxWait.Std(), BufferBytes: int(cfg.Fetch.Buffer), ReservedBytes: int(cfg.Fetch.Reserved),
			MaxBytes: int32(cfg.Fetch.MaxBytes), PartitionMaxBytes: int32(cfg.Fetch.PartitionMaxBytes),
		},
		Restore:  stream.RestoreConfig{Memory: int64(cfg.Restore.Memory), BytesPerSecond: int64(cfg.Restore.MaxBytesPerSecond)},
		FlushAge: cfg.State.FlushAfter.Std(), Pending: int64(cfg.State.WriteBehind),
		Cache:          int64(cfg.State.Cache),
		MaxRecordBytes: int(cfg.DeadLetters.MaxRecordBytes),
	}
	for _, f := range cfg.Feeds.Read() {
		sc.Feeds = append(sc.Feeds, stream.FeedConfig{Feed: f.Role, Topic: f.Topic, Mapping: f.Mapping, Reroute: f.Reroute, Completeness: f.Completeness.Std()})
	}
	return sc, nil
}

// identity is the same for every start of this instance: its host and its state directory, as a digest, because it is stored on the
// brokers.
func identity(cfg *config.Config) string {
	dir, err := filepath.Abs(cfg.State.Dir)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256([]byte(hostname() + "\x00" + dir))
	return hex.EncodeToString(sum[:8])
}
