package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"ebb/alerts"
	"ebb/state/customer"
	"ebb/stream/batch"
	"ebb/stream/event"
	"ebb/stream/fetch"
	"ebb/stream/group"
	"ebb/stream/txn"
)

// ErrPartitionCount says that the feeds cannot be joined: a customer must have the same partition number in all of them.
var ErrPartitionCount = errors.New("feeds have different partition counts")

// Engine is one instance: a member of the consumer group with a task for each partition it owns.
type Engine struct {
	cfg  Config
	deps Deps
	log  *slog.Logger
	m    *metrics

	groupMetrics *group.Metrics
	fetcher      *fetch.Fetcher
	scheduler    *txn.Scheduler
	pool         *txn.Pool
	slots        chan struct{} // bounds the flushes to disk at a time
	throttle     *throttle
	claims       *claims
	refused      chan error // why this instance must not go on
	codec        batch.Codec

	cluster      string
	partitions   int32
	partitionsOf map[string]int32

	copying chan struct{} // there may be copies to mind

	killed   atomic.Bool
	stopping atomic.Bool   // no tasks are opened any more, and no generation is lent
	lastCuts chan struct{} // closed when the cuts of a clean end are taken

	mu         sync.Mutex // guards what follows
	tasks      map[int32]*task
	second     *secondStage // nil where another instance runs it
	followers  map[int32]*follower
	gen        int32             // last generation of this member
	generation *group.Generation // the same, while it lasts

	models *models // what the second stage tells of all customers together; nil where nothing is learnt, and no cohorts are watched
}

// New builds an instance. Nothing is read or written before Run.
func New(cfg Config, deps Deps) (*Engine, error) {
	codec, err := parseCodec(cfg.Cut.Codec)
	if err != nil {
		return nil, fmt.Errorf("cut.compression: %w", err)
	}
	if err := cfg.checkReroute(); err != nil {
		return nil, err
	}
	m, err := newMetrics(deps.Registry, cfg.Feeds)
	if err != nil {
		return nil, err
	}
	e := &Engine{
		cfg: cfg, deps: deps, log: deps.Log, m: m, codec: codec,
		fetcher:      fetch.New(deps.Cluster, cfg.Fetch),
		scheduler:    txn.NewScheduler(cfg.Cut.InFlight),
		pool:         txn.NewPool(deps.Cluster),
		slots:        make(chan struct{}, flushesAtOnce),
		throttle:     &throttle{rate: float64(cfg.Restore.BytesPerSecond), tick: deps.Tick},
		claims:       newClaims(),
		refused:      make(chan error, 1),
		groupMetrics: group.NewMetrics(deps.Registry),
		lastCuts:     make(chan struct{}),
		tasks:        map[int32]*task{},
		followers:    map[int32]*follower{},
		copying:      make(chan struct{}, 1),
		gen:          -1,
	}
	if cfg.Population != nil || cfg.Cohorts != nil {
		e.models = &models{e: e}
	}
	if err := deps.Registry.Register(standing{tasks: e.Status, feeds: cfg.Feeds, currency: cfg.Rates.Currency().String()}); err != nil {
		return nil, err
	}
	return e, nil
}

// Run joins the group and works until ctx ends; then what is under way is committed, the group is left, and the local copies
// are caught up. It returns nil after such an end.
func (e *Engine) Run(ctx context.Context) error {
	defer e.pool.Close()
	defer e.fetcher.Close()
	if err := e.inspect(ctx); err != nil {
		if ctx.Err() != nil { // the brokers did not answer before it was told to stop
			return nil
		}
		return err
	}
	// The membership outlives ctx: the last cuts need its generation.
	joined, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	ended := make(chan error, 1)
	go func() { ended <- group.Run(joined, e.membership(joined), e) }()
	minding := make(chan struct{})
	go func() {
		defer close(minding)
		e.mindCopies(joined)
	}()
	defer func() { leave(); <-minding }()
	if e.models != nil {
		learning := make(chan struct{})
		go func() {
			defer close(learning)
			e.models.run(joined)
		}()
		defer func() { leave(); <-learning }()
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-e.refused:
	case err = <-ended:
		ended <- err
	}
	e.stopTasks(leave)
	err = errors.Join(err, <-ended)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// Kill ends the instance the way kill -9 would: nothing more is committed, nothing flushed, nobody told. Run returns
// once its context ends too.
func (e *Engine) Kill() {
	e.killed.Store(true)
	closeAll(e.all())
	endAll(e.takeFollowers())
	e.endSecond()
}

// closeAll ends tasks at the same time: each may have a request on its way that nobody answers.
func closeAll(tasks []*task) {
	for _, t := range tasks {
		t.cancel()
	}
	for _, t := range tasks {
		t.close()
	}
}

// flushesAtOnce bounds the tasks that write to disk at a time: more would only wait for each other's fsync.
const flushesAtOnce = 2

// stopWithin bounds the last cuts of a clean end, so that a supervisor that waits ten seconds does not have to kill.
const stopWithin = 8 * time.Second

// stopTasks takes the last cuts, leaves the group, and closes all tasks. The others take over while the local copies are caught
// up here: they read the changelog, not this disk.
func (e *Engine) stopTasks(leave func()) {
	e.mu.Lock()
	e.stopping.Store(true) // a generation may yet come, until the group is left
	e.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	tasks := e.all()
	if e.killed.Load() {
		closeAll(tasks)
		leave()
	} else {
		e.log.Info("stopping", "tasks", len(tasks))
		each(tasks, func(t *task) { t.revoke(ctx) })
		e.revokeSecond(ctx)
		close(e.lastCuts)
		leave()
		each(tasks, func(t *task) {
			if err := t.catchUp(ctx); err != nil {
				e.log.Warn("the local copy is not caught up; the next start reads the rest from the changelog", "partition", t.partition, "err", err)
			}
			t.close()
		})
	}
	endAll(e.takeFollowers())
	e.endSecond()
	e.mu.Lock()
	clear(e.tasks)
	e.mu.Unlock()
}

// takeFollowers leaves the engine without copies.
func (e *Engine) takeFollowers() (all []*follower) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.generation = nil
	return e.unwanted(&group.Generation{})
}

// each runs f for all tasks at the same time, and returns when all have ended.
func each(tasks []*task, f func(*task)) {
	var wg sync.WaitGroup
	for _, t := range tasks {
		wg.Go(func() { f(t) })
	}
	wg.Wait()
}

func (e *Engine) all() []*task {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]*task, 0, len(e.tasks))
	for _, t := range e.tasks {
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b *task) int { return int(a.partition - b.partition) })
	return all
}

// inspect checks before the start that everything the instance needs is there.
func (e *Engine) inspect(ctx context.Context) error {
	if err := e.deps.Cluster.Check(ctx); err != nil {
		return err
	}
	topics, cluster, err := e.deps.Cluster.Topics(ctx, e.allTopics()...)
	if err != nil {
		return fmt.Errorf("describe topics: %w", err)
	}
	e.cluster = cluster
	e.partitionsOf = map[string]int32{}
	var faults []error
	for _, name := range e.allTopics() {
		tp := topics[name]
		if tp.Err != nil {
			faults = append(faults, fmt.Errorf("topic %s: %w; `ebb topics check` says what is missing, `ebb topics create` makes ebb's own topics", name, tp.Err))
			continue
		}
		e.partitionsOf[name] = int32(len(tp.Partitions))
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	return e.copartitioned()
}

func (e *Engine) copartitioned() error {
	keyed := e.keyed()
	if len(keyed) == 0 {
		return errors.New("all feeds are rerouted; one has to be keyed by customer, because its partitions are the tasks")
	}
	first := keyed[0]
	e.partitions = e.partitionsOf[first]
	for _, topic := range keyed[1:] {
		if n := e.partitionsOf[topic]; n != e.partitions {
			return fmt.Errorf("%w: %s has %d, %s has %d; a customer must be in the same partition of every feed: recreate one with the count of the other, "+
				"or set `reroute: true` for the feed that is not keyed by customer or has the odd count",
				ErrPartitionCount, first, e.partitions, topic, n)
		}
	}
	if topic := e.cfg.Topics.Reroute; topic != "" && e.partitionsOf[topic] != e.partitions {
		return fmt.Errorf("%w: reroute topic %s has %d, the feeds have %d; `ebb state grow` adds partitions, `ebb topics create` makes a topic that fits under another name", ErrPartitionCount, topic, e.partitionsOf[topic], e.partitions)
	}
	if n := e.partitionsOf[e.cfg.Topics.Changelog]; n != e.partitions {
		return fmt.Errorf("%w: changelog %s has %d, the feeds have %d; `ebb state grow` spreads the state over more partitions", ErrPartitionCount, e.cfg.Topics.Changelog, n, e.partitions)
	}
	for _, name := range []string{e.cfg.Topics.Facts, e.cfg.Topics.FactsChangelog} {
		if n := e.partitionsOf[name]; n != 1 {
			return fmt.Errorf("%w: topic %s has %d, it must have one; delete it and create it with `ebb topics create`", ErrPartitionCount, name, n)
		}
	}
	return nil
}

// keyed are the topics whose partitions are the tasks'.
func (e *Engine) keyed() []string {
	var topics []string
	for _, f := range e.cfg.Feeds {
		if !f.Reroute {
			topics = append(topics, f.Topic)
		}
	}
	return topics
}

// divided are the topics whose partitions are divided among the tasks.
func (e *Engine) divided() []string {
	var topics []string
	for _, f := range e.cfg.Feeds {
		if f.Reroute {
			topics = append(topics, f.Topic)
		}
	}
	return topics
}

func (e *Engine) allTopics() []string {
	names := make([]string, 0, 16)
	for _, f := range e.cfg.Feeds {
		names = append(names, f.Topic)
	}
	t := e.cfg.Topics
	if t.Reroute != "" {
		names = append(names, t.Reroute)
	}
	return append(names, t.Alerts, t.OpenAlerts, t.Operations, t.Changelog, t.DeadLetters, t.Facts, t.FactsChangelog)
}

// partitionsChanged stops all tasks when a feed disappears or grows while ebb runs.
func (e *Engine) partitionsChanged(topic string, was, now int) {
	err := fmt.Errorf("%w: topic %s now has %d partitions, the state was built for %d: its customers would move away from their state; stop all instances and run `ebb state grow`", ErrPartitionCount, topic, now, was)
	switch {
	case now == 0:
		err = fmt.Errorf("topic %s was deleted: create it again, or remove its feed from the configuration", topic)
	case slices.Contains(e.divided(), topic):
		err = fmt.Errorf("topic %s now has %d partitions, and %d are read: restart all instances, so that the others are read too", topic, now, was)
	}
	e.stopAll(err)
}

func (e *Engine) stopAll(err error) {
	for _, t := range e.all() {
		select {
		case t.fault <- err:
		default:
		}
	}
}

// giveUp ends the instance for a fault that concerns all of its tasks.
func (e *Engine) giveUp(err error) {
	select {
	case e.refused <- err:
	default: // one is enough
	}
}

func (e *Engine) membership(ctx context.Context) group.Config {
	g := e.cfg.Membership
	return group.Config{
		Cluster: e.deps.Cluster, Group: e.cfg.Group, Topics: e.keyed(), Others: e.divided(), Log: e.log, Metrics: e.groupMetrics,
		SessionTimeout: g.Session, RebalanceTimeout: g.Rebalance, HeartbeatInterval: g.Heartbeat, Drain: g.Drain,
		PreviousMember: e.predecessor(ctx), RememberMember: e.deps.State.RememberMember,
		PartitionsChanged: e.partitionsChanged, Warm: e.warm,
		Changelog: e.cfg.Topics.Changelog, Standby: g.Standby, AcceptableLag: e.acceptableLag(),
	}
}

// warm tells the group how far this instance is with the state of each partition that it has something of: with its tasks, with the copies
// that it follows, and with the directories that lie there from before.
func (e *Engine) warm() map[int32]int64 {
	at := e.here()
	e.mu.Lock()
	defer e.mu.Unlock()
	for p, f := range e.followers {
		at[p] = max(1, f.at.Load())
	}
	for p, t := range e.tasks {
		at[p] = max(1, t.durable.Load())
	}
	return at
}

// here are the local copies, with their changelog positions as far as they are known without opening them.
func (e *Engine) here() map[int32]int64 {
	at := map[int32]int64{}
	here, err := e.deps.State.Tasks()
	if err != nil {
		e.log.Warn("local copies cannot be listed; partitions are assigned without regard to them", "err", err)
		return at
	}
	for _, p := range here {
		at[p] = 1
	}
	if d, ok := e.deps.State.(interface {
		Positions() (map[int32]int64, error)
	}); ok {
		known, err := d.Positions()
		if err != nil {
			e.log.Warn("positions of the local copies cannot be read", "err", err)
		}
		for p, n := range known {
			at[p] = max(1, n)
		}
	}
	return at
}

// Assigned lends a new generation to the tasks that stay, closes those that went, and opens those that came. A task that
// missed a generation may have had another owner meanwhile: it is opened anew.
func (e *Engine) Assigned(_ context.Context, g group.Generation) {
	e.mu.Lock()
	follows := g.ID == e.gen+1
	e.gen = g.ID
	var gone, stay []*task
	var come []int32
	for p, t := range e.tasks {
		if follows && slices.Contains(g.Partitions, p) {
			stay = append(stay, t)
		} else {
			gone = append(gone, t)
			delete(e.tasks, p)
		}
	}
	for _, p := range g.Partitions {
		if e.tasks[p] == nil {
			come = append(come, p)
		}
	}
	dropped := e.unwanted(&g)
	for _, t := range stay {
		if !e.stopping.Load() {
			t.lend(&g)
		}
	}
	e.mu.Unlock()
	e.elect(&g, follows)
	ending := make(map[int32]<-chan struct{}, len(dropped))
	for _, f := range dropped {
		f.cancel()
		ending[f.partition] = f.done
	}
	closed := len(gone)
	again := func(t *task) bool { return slices.Contains(come, t.partition) }
	e.closeGone(slices.DeleteFunc(slices.Clone(gone), func(t *task) bool { return !again(t) }))
	// What comes is opened before what went is closed: nobody else serves it, and closing a store takes a while.
	e.open(&g, come, ending)
	e.closeGone(slices.DeleteFunc(gone, again))
	endAll(dropped)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.killed.Load() || e.stopping.Load() {
		return
	}
	e.follow(&g)
	e.log.Info("partitions assigned", "kept", len(stay), "opened", len(come), "closed", closed, "copies", len(e.followers), "to_come", len(g.Coming))
}

// closeGone closes tasks that this instance does not have any more.
func (e *Engine) closeGone(gone []*task) {
	closeAll(gone)
	for _, t := range gone {
		e.m.drop(t.partition)
	}
}

// open starts the tasks of partitions that come, each after the copy of it that was followed here has ended.
func (e *Engine) open(g *group.Generation, come []int32, ending map[int32]<-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.killed.Load() || e.stopping.Load() {
		return
	}
	for _, p := range come {
		t, err := e.newTask(p)
		if err != nil { // New has checked the mappings
			e.log.Error("task does not open", "partition", p, "err", err)
			continue
		}
		t.after = ending[p]
		e.tasks[p] = t
		t.leased.Store(g)
		go t.run()
	}
}

// Revoked takes the right to commit back, after a last cut: whoever owns a partition next then has nothing to compute again.
func (e *Engine) Revoked(group.Generation, error) {
	e.mu.Lock()
	e.generation = nil
	e.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), e.cfg.Membership.Drain)
	defer cancel()
	if e.killed.Load() {
		return
	}
	if e.stopping.Load() { // the tasks may be busy with their local copies by now
		select {
		case <-e.lastCuts:
		case <-ctx.Done():
		}
		return
	}
	each(e.all(), func(t *task) { t.revoke(ctx) })
	e.revokeSecond(ctx)
}

func (e *Engine) newTask(p int32) (*task, error) {
	t := &task{
		partitions: e.partitions, claims: e.claims, giveUp: e.giveUp, slots: e.slots, throttle: e.throttle, stateMetrics: e.deps.StateMetrics.Task(p), m: e.m.task(p, e.cfg.Feeds),
		random:  rand.New(rand.NewPCG(e.deps.Rand.Uint64(), uint64(p))).Float64,
		commits: make(chan cutResult, 1), poisoned: map[poison]bool{}, cursed: map[string]bool{},
		params: e.cfg.Customer, policy: e.deps.Policy, sampling: newSampling(e.cfg.Population != nil, e.models), judging: newJudging(),
		decider: alerts.Decider{Detectors: e.deps.Detectors, Policy: e.deps.Policy, OutOfOrder: e.cfg.Time.maxOutOfOrderMs()},
	}
	e.equip(&t.owner, p, strconv.Itoa(int(p)), p)
	t.log = e.log.With("partition", p)
	t.remaining = func(offsets int64) { t.m.restoreRemaining.Set(float64(offsets)) }
	t.params.Calendar = customer.NewCalendar(e.cfg.Time.Zone)
	t.env.Calendar, t.env.Rates = t.params.Calendar, e.cfg.Rates
	e.deps.Detectors.Keep(&t.params, &t.env)
	t.age = t.cutAge()
	for _, f := range e.cfg.Feeds {
		for _, q := range t.partsOf(f) {
			s, err := t.newSource(f, q)
			if err != nil {
				return nil, err
			}
			t.sources = append(t.sources, s)
			if t.byFeed[f.Feed] == nil {
				t.byFeed[f.Feed] = s
			}
		}
	}
	for _, f := range mergeOrder {
		for _, s := range t.sources {
			if s.feed == f {
				t.merged = append(t.merged, s)
			}
		}
	}
	for _, s := range t.sources {
		switch {
		case s.part == noPartition:
		case s.feed == event.Customers:
			t.profiles = append(t.profiles, s)
		case s.feed == event.Control:
			t.controls = append(t.controls, s)
		}
	}
	t.views = make([]view, len(t.merged))
	for i := range t.letters {
		t.letters[i], t.examples[i] = map[event.Reason]int64{}, map[event.Reason]string{}
	}
	return t, nil
}

// equip gives an owner what it needs. Its name is the end of its transactional id, seam what a test calls it.
func (e *Engine) equip(o *owner, partition int32, name string, seam int32) {
	o.partition, o.cfg, o.deps, o.cluster, o.partitionsOf = partition, &e.cfg, &e.deps, e.cluster, e.partitionsOf
	o.fetcher, o.scheduler, o.codec, o.now, o.tick = e.fetcher, e.scheduler, e.codec, e.deps.Now, e.deps.Tick
	o.producer = txn.New(e.deps.Cluster, txn.Config{
		TransactionalID: e.cfg.Group + "-" + name, Timeout: e.cfg.Cut.Timeout, Pool: e.pool, Log: e.log, Step: e.stepSeam(seam),
	})
	o.ctx, o.cancel = context.WithCancel(context.Background())
	o.fault, o.commands = make(chan error, 1), make(chan func())
	o.wake, o.done = make(chan struct{}, 1), make(chan struct{})
}

// stepSeam is the test seam of one task's transactions.
func (e *Engine) stepSeam(p int32) func(txn.Step) error {
	if e.deps.TxnStep == nil {
		return nil
	}
	return func(s txn.Step) error { return e.deps.TxnStep(p, s) }
}

// partsOf are the partitions of a feed that this task reads. One that is divided among the tasks may have none for it: noPartition then
// stands for what other tasks forward of it.
func (t *task) partsOf(f FeedConfig) []int32 {
	if !f.Reroute {
		return []int32{t.partition}
	}
	var parts []int32
	for q := t.partition; q < t.partitionsOf[f.Topic]; q += t.partitions {
		parts = append(parts, q)
	}
	if parts == nil {
		return []int32{noPartition}
	}
	return parts
}

const noPartition = -1

func (t *task) newSource(f FeedConfig, partition int32) (*source, error) {
	dec, err := event.NewDecoder(f.Feed, f.Mapping, event.Limits{MaxRecordBytes: t.cfg.MaxRecordBytes, MaxFutureSkew: t.cfg.Time.MaxFutureSkew, Now: t.now})
	if err != nil {
		return nil, fmt.Errorf("mapping of feed %s: %w", f.Feed, err)
	}
	s := &source{
		feed: f.Feed, topic: f.Topic, part: partition, count: t.partitions, home: t.partition, check: t.cfg.Check, rekeyed: f.Reroute,
		dec: dec, completenessMs: f.Completeness.Milliseconds(), room: lookahead,
	}
	if f.Feed == event.Customers || f.Feed == event.Control {
		s.room = lookahead / 8
	}
	if t.cfg.Topics.Reroute != "" {
		s.send = t.forward
		if f.Feed != event.Customers && f.Feed != event.Control {
			s.room *= reroutedLookahead
		}
	}
	return s, nil
}

// parseCodec is the codec of a name that ebb writes with; it reads others too.
func parseCodec(name string) (batch.Codec, error) {
	codec, err := batch.ParseCodec(name)
	if err == nil && (codec == batch.Gzip || codec == batch.Snappy) {
		err = fmt.Errorf("%q is only read; use none, lz4 or zstd", name)
	}
	return codec, err
}

// Partitions is how many partitions the feeds have, 0 before Run has looked.
func (e *Engine) Partitions() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return int(e.partitions)
}

// Member says whether a generation of the group includes this instance.
func (e *Engine) Member() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.gen >= 0
}

// Owns says whether this instance holds a partition now.
func (e *Engine) Owns(p int32) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.tasks[p] != nil
}
