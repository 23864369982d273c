//go:build linux

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const dayMs = int64(86_400_000)

var feeds = []string{"usage", "payments", "complaints"}

// happening is one event of the load.
type happening struct {
	feed     string
	customer string
	at       int64 // ms
	kind     string
	cents    int64
	id       string
	ticket   string
	priority string
	bad      bool // unreadable on purpose
	plain    bool // of a customer who only uses: nothing is decided by when it comes
}

func (h *happening) json() []byte {
	if h.bad {
		return fmt.Appendf(nil, `{"id":%q,"customer_id":%q,"time":"yesterday"`, h.id, h.customer)
	}
	at := time.UnixMilli(h.at).UTC().Format("2006-01-02T15:04:05.000Z")
	b := fmt.Appendf(nil, `{"id":%q,"customer_id":%q,"time":%q,"type":%q`, h.id, h.customer, at, h.kind)
	switch h.feed {
	case "usage":
		return append(b, `,"quantity":12.5,"unit":"minutes"}`...)
	case "payments":
		return fmt.Appendf(b, `,"amount":%d.%02d,"currency":"EUR"}`, h.cents/100, h.cents%100)
	default:
		return fmt.Appendf(b, `,"complaint_id":%q,"priority":%q,"subject":"late"}`, h.ticket, h.priority)
	}
}

// load is what the customers do. Its history lies in the topics before ebb begins; the rest is stamped with the wall clock as it is
// produced.
//
// Real producers are late, by whole outages when brokers die, and events that are late decide otherwise than events in order. What
// must come out has to follow from the topics alone, so no customer of the load does anything whose outcome depends on how late it is:
// a customer who is active while ebb runs uses one feed only, in which the order is that of the log, and nothing is done within
// nearness of a deadline, neither before nor after it. In the history, which is read in order, customers use all feeds at once.
type load struct {
	rng     *rand.Rand
	begin   int64         // ms: when the live part begins
	span    time.Duration // how long it lasts about: deadlines are spread over it
	near    int64         // nearness of a deadline, ms
	rate    float64       // live events a second
	history []happening
	early   []happening // at the very beginning of the live part, before any fault
	planned []happening // later in it, by time
	regular []regular
	seq     int
	open    []happening // critical complaints that are not resolved yet
	last    map[string]int64
}

// regular is a customer who does the same again and again.
type regular struct{ id, feed string }

// newLoad draws n customers whose history covers the 60 days before begin.
func newLoad(seed uint64, n int, begin time.Time, span time.Duration, near time.Duration, rate float64) *load {
	l := &load{
		rng: rand.New(rand.NewPCG(seed, 2)), begin: begin.UnixMilli(), span: span, near: near.Milliseconds(), rate: rate,
		last: map[string]int64{},
	}
	kinds := []func(string){l.mixed, l.sleeper, l.user, l.dropper, l.payer, l.complainer, l.waiting}
	for c := range n {
		kinds[c%len(kinds)](fmt.Sprintf("c-%05d", c))
	}
	byTime := func(a, b happening) int { return int(min(max(a.at-b.at, -1), 1)) }
	slices.SortStableFunc(l.history, byTime)
	slices.SortStableFunc(l.planned, byTime)
	for i := range l.history {
		l.name(&l.history[i])
	}
	return l
}

// name gives an event its id, unlike any other's.
func (l *load) name(h *happening) {
	l.seq++
	h.id = fmt.Sprintf("%c-%d", h.feed[0], l.seq)
}

// during is a moment of the live part, far enough from its beginning for everything that begins there to be seen.
func (l *load) during() int64 {
	span := l.span.Milliseconds()
	return l.begin + l.near + l.rng.Int64N(max(1, span-l.near))
}

// days puts events on about `share` of the days from..to before the beginning.
func (l *load) days(from, to int, share float64, add func(at int64)) {
	for d := from; d > to; d-- {
		if l.rng.Float64() < share {
			add(l.begin - int64(d)*dayMs + l.rng.Int64N(dayMs-1000))
		}
	}
}

func (l *load) uses(id string, at int64) happening {
	return happening{feed: "usage", customer: id, at: at, kind: "session"}
}

func plain(h happening) happening {
	h.plain = true
	return h
}

func (l *load) pays(id string, at, cents int64) happening {
	return happening{feed: "payments", customer: id, at: at, kind: "purchase", cents: cents}
}

func (l *load) past(h happening) { l.history = append(l.history, h) }

// mixed has a history in all feeds, and quits, stops paying or complains in it, or quits so that his silence is noticed while ebb runs.
func (l *load) mixed(id string) {
	quits, stops := 1, 1
	switch l.rng.IntN(4) {
	case 0:
		quits = 2 + l.rng.IntN(11)
	case 1:
		quits = 16 + l.rng.IntN(30)
	case 2:
		stops = 5 + l.rng.IntN(20)
	}
	amount := int64(500 + l.rng.IntN(6000))
	l.days(60, quits, 0.6, func(at int64) { l.past(l.uses(id, at)) })
	l.days(60, max(stops, quits), 0.4, func(at int64) {
		h := l.pays(id, at, amount/2+l.rng.Int64N(amount))
		switch l.rng.IntN(20) {
		case 0:
			h.kind = "refund"
		case 1:
			h.kind = "charge_failed"
		}
		l.past(h)
	})
	l.days(58, 7, 0.03, func(at int64) { l.complains(id, at) })
}

func (l *load) complains(id string, at int64) {
	h := happening{feed: "complaints", customer: id, at: at, kind: "opened", priority: []string{"normal", "high", "critical"}[l.rng.IntN(3)]}
	l.seq++
	h.ticket = fmt.Sprintf("T-%d", l.seq)
	l.past(h)
	if l.rng.IntN(10) > 0 {
		h.at, h.kind = at+l.rng.Int64N(4*dayMs), "resolved"
		l.past(h)
	}
}

// sleeper was last active two weeks before some moment of the live part. Some come back before that, most fall silent then, and some
// of those come back later.
func (l *load) sleeper(id string) {
	due := l.during()
	l.days(60, 15, 0.5, func(at int64) { l.past(l.uses(id, at)) })
	l.past(l.uses(id, due-14*dayMs))
	switch l.rng.IntN(4) {
	case 0:
		l.early = append(l.early, l.uses(id, 0))
	case 1, 2:
		l.planned = append(l.planned, l.uses(id, due+l.near+l.rng.Int64N(l.near)))
	}
}

// user does nothing but use.
func (l *load) user(id string) {
	l.days(60, 0, 0.5, func(at int64) { l.past(plain(l.uses(id, at))) })
	l.past(l.uses(id, l.begin-dayMs/2-l.rng.Int64N(dayMs/4)))
	l.regular = append(l.regular, regular{id, "usage"})
}

// dropper stopped spending, and shows up again: what he spent is judged when he does.
func (l *load) dropper(id string) {
	stopped := 9 + l.rng.IntN(3)
	l.days(60, stopped, 0.7, func(at int64) { l.past(l.pays(id, at, 1000+l.rng.Int64N(5000))) })
	l.past(l.pays(id, l.begin-int64(stopped)*dayMs-dayMs/2, 3000)) // else he would be silent before his day has come
	l.planned = append(l.planned, l.pays(id, l.during(), 100))
}

// payer pays again and again; some had dropped and have recovered since.
func (l *load) payer(id string) {
	pause := 0
	if l.rng.IntN(2) == 0 {
		pause = 8
	}
	l.days(60, 2+pause+8, 0.7, func(at int64) { l.past(l.pays(id, at, 1000+l.rng.Int64N(5000))) })
	if pause > 0 {
		l.past(l.pays(id, l.begin-2*dayMs, 100))              // judged low
		l.past(l.pays(id, l.begin-2*dayMs+dayMs/10, 100_000)) // and the next day he has recovered
	}
	l.past(l.pays(id, l.begin-dayMs/2-l.rng.Int64N(dayMs/4), 2000))
	l.regular = append(l.regular, regular{id, "payments"})
}

// complainer opens critical complaints, which are alerts at once, and has them resolved.
func (l *load) complainer(id string) {
	l.days(60, 0, 0.2, func(at int64) { l.past(l.uses(id, at)) })
	l.past(l.uses(id, l.begin-dayMs/2-l.rng.Int64N(dayMs/4)))
	l.regular = append(l.regular, regular{id, "complaints"})
}

// waiting has one complaint whose time is up while ebb runs, unless it is resolved at the beginning; some are resolved later.
func (l *load) waiting(id string) {
	due := l.during()
	l.past(l.uses(id, l.begin-3*dayMs))
	l.seq++
	h := happening{feed: "complaints", customer: id, at: due - 2*dayMs, kind: "opened", priority: "normal", ticket: fmt.Sprintf("T-%d", l.seq)}
	l.past(h)
	h.kind = "resolved"
	switch l.rng.IntN(4) {
	case 0:
		l.early = append(l.early, h)
	case 1, 2:
		h.at = due + l.near + l.rng.Int64N(l.near)
		l.planned = append(l.planned, h)
	}
}

// next are the events that are due between two moments.
func (l *load) next(from, to int64) []happening {
	var out []happening
	for len(l.planned) > 0 && l.planned[0].at <= to {
		out = append(out, l.planned[0])
		l.planned = l.planned[1:]
	}
	for range l.count(float64(to-from) / 1000 * l.rate) {
		out = append(out, l.again()...)
	}
	stamped := out[:0]
	for _, h := range out {
		if !h.bad && l.last[h.customer] >= to { // no two events of a customer bear one time
			continue
		}
		l.last[h.customer] = to
		h.at = to
		if h.id == "" {
			l.name(&h)
		}
		stamped = append(stamped, h)
	}
	return stamped
}

// count rounds so that the mean is kept.
func (l *load) count(want float64) int {
	n := int(want)
	if l.rng.Float64() < want-float64(n) {
		n++
	}
	return n
}

// again is what a regular customer does next; sometimes it is unreadable, or the end of a complaint.
func (l *load) again() []happening {
	if l.rng.IntN(100) == 0 {
		l.seq++
		h := happening{feed: feeds[l.rng.IntN(3)], customer: fmt.Sprintf("nobody-%d", l.seq), bad: true}
		l.name(&h)
		return []happening{h}
	}
	if len(l.open) > 0 && l.rng.IntN(4) == 0 {
		i := l.rng.IntN(len(l.open))
		h := l.open[i]
		h.kind, h.id = "resolved", ""
		l.open = slices.Delete(l.open, i, i+1)
		return []happening{h}
	}
	r := l.regular[l.rng.IntN(len(l.regular))]
	switch r.feed {
	case "usage":
		return []happening{plain(l.uses(r.id, 0))}
	case "payments":
		return []happening{l.pays(r.id, 0, 100+l.rng.Int64N(3000))}
	}
	if len(l.open) > 200 {
		return nil
	}
	l.seq++
	h := happening{feed: "complaints", customer: r.id, kind: "opened", priority: "critical", ticket: fmt.Sprintf("T-%d", l.seq)}
	l.open = append(l.open, h)
	return []happening{h}
}

// producer writes the load with an idempotent producer that never gives up: what is not acknowledged is written later, and what that
// comes to is read back from the topics.
type producer struct {
	client *kgo.Client
	topic  func(feed string) string
	begin  int64 // ms: events before it are history
	// misplaces has one in thirty of the events that may be anywhere written into another partition than their customer's.
	misplaces bool
	sent      atomic.Int64
	acked     atomic.Int64
	latest    atomic.Int64 // the most that an event of the live part was acknowledged after its own time, ms
	mu        sync.Mutex
	refused   []error
	repeat    *rand.Rand
	java      kgo.TopicPartitioner // chooses partitions as Java clients do
}

func newProducer(addrs []string, seed uint64, begin int64, topic func(string) string) (*producer, error) {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(addrs...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(0), kgo.MaxBufferedRecords(1<<20), kgo.DisableClientMetrics(),
		// a frozen broker must not hold the load back for longer than the cluster needs to replace it
		kgo.RequestTimeoutOverhead(3*time.Second), kgo.ProduceRequestTimeout(5*time.Second), kgo.DialTimeout(2*time.Second),
		kgo.MetadataMinAge(200*time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 200 * time.Millisecond }),
	)
	if err != nil {
		return nil, err
	}
	return &producer{client: client, begin: begin, topic: topic, repeat: rand.New(rand.NewPCG(seed, 3)), java: kgo.StickyKeyPartitioner(nil).ForTopic("")}, nil
}

// send hands events over, in order. One in two hundred is written twice, as a producer does that does not know whether it was written.
func (p *producer) send(events []happening) {
	for i := range events {
		h := &events[i]
		times := 1
		if p.repeat.IntN(200) == 0 {
			times = 2
		}
		for range times {
			p.sent.Add(1)
			rec := &kgo.Record{Topic: p.topic(h.feed), Partition: int32(p.java.Partition(&kgo.Record{Key: []byte(h.customer)}, partitions)), Key: []byte(h.customer), Value: h.json()}
			if p.misplaces && h.plain && p.repeat.IntN(30) == 0 {
				rec.Partition = (rec.Partition + 1 + p.repeat.Int32N(partitions-1)) % partitions
			}
			if h.at != 0 {
				rec.Timestamp = time.UnixMilli(h.at)
			}
			p.client.Produce(context.Background(), rec, func(_ *kgo.Record, err error) {
				if err != nil {
					p.mu.Lock()
					p.refused = append(p.refused, err)
					p.mu.Unlock()
					return
				}
				p.acked.Add(1)
				if h.at < p.begin {
					return
				}
				late := time.Now().UnixMilli() - h.at
				for at := p.latest.Load(); late > at && !p.latest.CompareAndSwap(at, late); at = p.latest.Load() {
				}
			})
		}
	}
}

// play sends the live part until stop is closed, and returns the time of its last event, in ms.
func (p *producer) play(l *load, stop <-chan struct{}) int64 {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	from := time.Now().UnixMilli()
	for {
		select {
		case <-stop:
			return from
		case <-tick.C:
			to := time.Now().UnixMilli()
			p.send(l.next(from, to))
			from = to
		}
	}
}

// flush waits until everything is acknowledged.
func (p *producer) flush(ctx context.Context) error {
	if err := p.client.Flush(ctx); err != nil {
		return fmt.Errorf("%d of %d events are acknowledged: %w", p.acked.Load(), p.sent.Load(), err)
	}
	return nil
}
