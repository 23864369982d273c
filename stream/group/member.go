package group

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"

	"ebb/stream/conn"
)

// rejoinPauseMax bounds the growing pause between generations that a task ended by Rejoin: each one stalls the whole group.
const rejoinPauseMax = 5 * time.Second

// steady is how long a generation must live for the next Rejoin to be served without a pause.
const steady = 10 * time.Second

// Run joins the group, and joins it again after every end of a generation, until ctx ends. Then it revokes, leaves the group if others
// are in it, and returns nil. It returns an error only for what no retry mends: a configuration or a right that is missing.
func Run(ctx context.Context, cfg Config, h Handler) error {
	if err := cfg.setDefaults(); err != nil {
		return err
	}
	m := &member{cfg: cfg, handler: h, joining: make(chan struct{}, 1)}
	m.stale.Store(&cfg.PreviousMember)
	m.balancer = &balancer{rules: rules{copies: cfg.Changelog, standby: cfg.Standby, lag: cfg.AcceptableLag}, warm: cfg.Warm, joining: m.signalJoin, dead: func() string { return *m.stale.Load() }, last: claim{generation: -1}}

	topics := cfg.Topics
	if cfg.Changelog != "" { // a member is told only of topics that it asks for
		topics = append(slices.Clone(topics), cfg.Changelog)
	}
	dialer := cfg.Cluster.Dialer()
	m.gate.dial, dialer.DialFunc = dialer.DialFunc, m.gate.open
	cg, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: cfg.Group, Brokers: cfg.Cluster.Brokers(), Dialer: dialer, Topics: topics,
		GroupBalancers: []kafka.GroupBalancer{m.balancer}, HeartbeatInterval: cfg.HeartbeatInterval, SessionTimeout: cfg.SessionTimeout,
		RebalanceTimeout: cfg.RebalanceTimeout, JoinGroupBackoff: cfg.JoinBackoff, Timeout: cfg.Timeout,
	})
	if err != nil {
		return fmt.Errorf("group: %w", err)
	}
	return m.run(ctx, cg)
}

// member is one membership.
//
// Goroutines: run waits for generations; each generation has one worker (serve), started by kafka-go and awaited by it before the next
// join; buryLoop and watchLoop live as long as run. kafka-go calls the balancer from its own.
type member struct {
	cfg      Config
	handler  Handler
	balancer *balancer
	gate     gate

	joining chan struct{}          // signalled when a JoinGroup is about to be sent
	pending atomic.Bool            // it may wait for others at the coordinator
	stale   atomic.Pointer[string] // member id that is dead and may still be waited for, "" if none
	current string                 // member id of the last generation; owned by run
	serving atomic.Bool            // a worker runs
	drained chan struct{}          // closed when the last Revoked has returned; owned by the workers, of which there is one at a time
	rejoins int                    // generations in a row that Rejoin ended early; owned by the workers
	failed  chan error             // what a worker found to be fatal
}

func (m *member) run(ctx context.Context, cg *kafka.ConsumerGroup) error {
	m.failed = make(chan error, 1)
	m.drained = make(chan struct{})
	close(m.drained)
	helpers, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { m.buryLoop(helpers) })
	if m.cfg.PartitionsChanged != nil {
		wg.Go(func() { m.watchLoop(helpers) })
	}
	err := m.generations(ctx, cg)
	cancel()
	m.stop(cg)
	wg.Wait()
	m.cfg.Metrics.partitions.Set(0)
	return err
}

// generations serves one generation after the other until ctx ends or something fatal is met.
func (m *member) generations(ctx context.Context, cg *kafka.ConsumerGroup) error {
	failures := 0
	for {
		next, cancel := context.WithCancel(ctx)
		var fatal error
		stopWatch := make(chan struct{})
		watched := make(chan struct{})
		go func() { // Next cannot wait for a worker's verdict too
			defer close(watched)
			select {
			case fatal = <-m.failed:
				cancel()
			case <-stopWatch:
			}
		}()
		gen, err := cg.Next(next)
		close(stopWatch)
		<-watched
		cancel()
		switch {
		case fatal != nil:
			return fatal
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the end of ctx is why Next failed, and no error of Run
		case err == nil:
			failures = 0
			m.begin(ctx, gen)
		default:
			if fatal := m.joinFailed(err, failures); fatal != nil {
				return fatal
			}
			failures++
		}
	}
}

// joinFailed deals with an error of Next. kafka-go forgets its member id on any but RebalanceInProgress, so that from here on the
// group would wait for a member that never comes back.
func (m *member) joinFailed(err error, before int) error {
	m.cfg.Metrics.joinErrors.Inc()
	if !errors.Is(err, kafka.RebalanceInProgress) && m.current != "" {
		id := m.current
		m.stale.Store(&id)
	}
	m.pending.Store(false)
	if fatal := fatalJoinError(m.cfg.Group, err); fatal != nil {
		return fatal
	}
	if n := before + 1; n&(n-1) == 0 { // every 0.3 s would drown the log of an outage
		m.cfg.Log.Warn("joining the consumer group failed, trying on", "attempts", n, "err", err)
	}
	return nil
}

func fatalJoinError(group string, err error) error {
	switch conn.Code(err) {
	case kafka.GroupAuthorizationFailed:
		return fmt.Errorf("group: no right to join group %q; grant Read on the group: %w", group, err)
	case kafka.TopicAuthorizationFailed:
		return fmt.Errorf("group: no right to describe the feeds; grant Describe and Read on the topics: %w", err)
	case kafka.InconsistentGroupProtocol:
		return fmt.Errorf("group: %q is used by consumers of another program; choose another group name: %w", group, err)
	case kafka.InvalidSessionTimeout:
		return fmt.Errorf("group: the session timeout lies outside of the broker's group.min.session.timeout.ms and group.max.session.timeout.ms: %w", err)
	case kafka.InvalidGroupId:
		return fmt.Errorf("group: the broker refuses the group name %q: %w", group, err)
	case kafka.SASLAuthenticationFailed, kafka.UnsupportedSASLMechanism:
		return fmt.Errorf("group: the broker refuses the login: %w", err)
	}
	return nil
}

// begin hands a new generation to a worker.
func (m *member) begin(ctx context.Context, gen *kafka.Generation) {
	m.current = gen.MemberID
	m.stale.Store(new(string)) // had the dead one still counted, this generation would not have come about
	if err := m.cfg.RememberMember(gen.MemberID); err != nil {
		m.cfg.Log.Warn("the member id could not be stored; a restart after a crash will take longer", "err", err)
	}
	m.serving.Store(true)
	gen.Start(func(ended context.Context) {
		defer m.serving.Store(false)
		if err := m.serve(ctx, ended, gen); err != nil {
			m.failed <- err
			<-ended.Done() // run ends the group
		}
	})
}

// serve is the worker of one generation. Its return ends the generation.
func (m *member) serve(ctx, ended context.Context, gen *kafka.Generation) error {
	parts, err := m.partitions(gen)
	if err != nil {
		return err
	}
	m.balancer.assigned(gen.ID, parts)
	select {
	case <-m.drained: // the generation before is out of the tasks' hands
	case <-ended.Done():
		return nil
	}
	m.cfg.Metrics.generations.Inc()
	m.cfg.Metrics.partitions.Set(float64(len(parts)))
	m.cfg.Log.Info("generation begins", "generation", gen.ID, "partitions", parts)

	rejoin := make(chan error, 1)
	g := Generation{ID: gen.ID, MemberID: gen.MemberID, Partitions: parts, rejoin: rejoin}
	g.Copies, g.Coming = copies(gen.Assignments[m.cfg.Changelog], parts)
	lent, endLent := context.WithCancelCause(ended)
	defer endLent(ErrRebalance)
	m.handler.Assigned(lent, g)
	if m.balancer.blankly() {
		g.Rejoin(errNoPartitions)
	}

	longLived := time.NewTimer(steady)
	defer longLived.Stop()
	why := m.wait(ctx, ended, rejoin, longLived.C)
	endLent(why)
	m.revoke(g, why)
	switch {
	case errors.Is(why, ErrStopping):
		<-ended.Done() // stop has to come first, or the group would be joined again
	case errors.Is(why, ErrRebalance), errors.Is(why, ErrCaughtUp):
		m.rejoins = 0
	default:
		m.pause(ended)
	}
	return nil
}

// partitions returns the task ids of an assignment: the same for every topic.
func (m *member) partitions(gen *kafka.Generation) ([]int32, error) {
	var parts []int32
	for i, topic := range m.cfg.Topics {
		ids := make([]int32, 0, len(gen.Assignments[topic]))
		for _, a := range gen.Assignments[topic] {
			ids = append(ids, int32(a.ID))
		}
		slices.Sort(ids)
		if i > 0 && !slices.Equal(ids, parts) {
			return nil, fmt.Errorf("%w: assigned %v of %s, but %v of %s; all feeds need the same number of partitions", ErrNotCopartitioned, parts, m.cfg.Topics[0], ids, topic)
		}
		parts = ids
	}
	return parts, nil
}

// copies reads the partitions to follow: one that is named twice is to come. What the member owns it need not copy.
func copies(assigned []kafka.PartitionAssignment, owned []int32) (all, coming []int32) {
	times := map[int32]int{}
	for _, a := range assigned {
		id := int32(a.ID)
		if slices.Contains(owned, id) {
			continue
		}
		times[id]++
		if times[id] == 1 {
			all = append(all, id)
		} else if times[id] == 2 {
			coming = append(coming, id)
		}
	}
	slices.Sort(all)
	slices.Sort(coming)
	return all, coming
}

func (m *member) wait(ctx, ended context.Context, rejoin <-chan error, longLived <-chan time.Time) error {
	for {
		select {
		case <-ctx.Done():
			return ErrStopping
		case <-ended.Done():
			if ctx.Err() != nil {
				return ErrStopping
			}
			return ErrRebalance
		case <-longLived:
			m.rejoins = 0
		case why := <-rejoin:
			if why == nil {
				why = errors.New("group: rejoin")
			}
			return why
		}
	}
}

// revoke takes the generation back, and waits for that at most as long as Config.Drain.
func (m *member) revoke(g Generation, why error) {
	m.cfg.Log.Info("generation ends", "generation", g.ID, "why", why)
	m.cfg.Metrics.partitions.Set(0)
	drained := make(chan struct{})
	m.drained = drained
	go func() {
		defer close(drained)
		m.handler.Revoked(g, why)
	}()
	timer := time.NewTimer(m.cfg.Drain)
	defer timer.Stop()
	select {
	case <-drained:
	case <-timer.C:
		m.cfg.Log.Warn("commits in flight did not finish in time; going on without them", "generation", g.ID, "drain", m.cfg.Drain)
	}
}

// pause spaces out generations that tasks keep ending. Heartbeats go on meanwhile, and a rebalance ends the pause.
func (m *member) pause(ended context.Context) {
	d := min(m.cfg.JoinBackoff<<min(m.rejoins, 8)/2, rejoinPauseMax)
	m.rejoins++
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ended.Done():
	}
}

// stopPatience bounds what a stop adds to Config.Drain.
const stopPatience = 2 * time.Second

// stop ends the membership. The only member does not leave: when it comes back, it finds the group as it was, and need not wait for the
// broker's initial rebalance delay. Others, where there are any, are not kept waiting for it.
func (m *member) stop(cg *kafka.ConsumerGroup) {
	leave := m.current != "" && !m.balancer.alone()
	serving := m.serving.Load()
	if !leave || !serving {
		m.gate.shut()
	}
	if !serving {
		m.gate.hangUp() // a JoinGroup may be waiting there for others, for as long as the rebalance timeout
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = cg.Close() // always nil
	}()
	timer := time.NewTimer(m.cfg.Drain + stopPatience)
	defer timer.Stop()
	select {
	case <-closed:
	case <-timer.C:
		m.gate.shut()
		m.gate.hangUp()
		<-closed
	}
	if !leave {
		return
	}
	if !serving { // kafka-go leaves only out of a generation
		ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
		defer cancel()
		if err := m.leave(ctx, m.current); err != nil {
			m.cfg.Log.Warn("leaving the group failed; the others wait until the session ends", "err", err)
			return
		}
	}
	if err := m.cfg.RememberMember(""); err != nil {
		m.cfg.Log.Warn("the member id could not be removed", "err", err)
	}
}
