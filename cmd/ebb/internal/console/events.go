package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// Rhythm of a live stream: changes of the queue are told at most four times a second, the line of state and the demo's
// panel once a second. A write that a viewer does not take within writeTimeout ends his stream; his browser comes back.
const (
	queueRhythm  = 250 * time.Millisecond
	stateRhythm  = time.Second
	writeTimeout = 10 * time.Second
)

// queueNews tells the script that the queue has changed: it fetches the rows that it shows.
type queueNews struct {
	Version uint64         `json:"version"`
	Open    int            `json:"open"`
	Left    []departedNews `json:"left,omitempty"`
}

type departedNews struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

type actNews struct {
	Name     string `json:"name"`
	Label    string `json:"label"`
	Active   bool   `json:"active"`
	Disabled string `json:"disabled"`
	Did      string `json:"did"`
	Good     bool   `json:"good"`
}

// events is the live stream of server-sent events:
//
//	queue  the queue has changed: its version, the number of open alerts, and those that left with their reasons
//	parts  parts of the page by element id, as HTML
//	acts   the demo's buttons
func (c *Console) events(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead { // a stream of nothing would not end
		w.Header().Set("Content-Type", "text/event-stream")
		return
	}
	select {
	case c.viewers <- struct{}{}:
		defer func() { <-c.viewers }()
	default:
		w.Header().Set("Retry-After", "30")
		http.Error(w, "Too many viewers at once; the page works without live updates.", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	s := stream{c: c, w: w, rc: http.NewResponseController(w), sent: map[string]string{}}
	s.version, _ = c.o.Book.Changes()
	_, s.mark = c.o.Book.Departures(0)
	if s.send("hello", map[string]string{"version": c.version}) != nil || s.state() != nil {
		return
	}
	queue := time.NewTicker(queueRhythm)
	defer queue.Stop()
	state := time.NewTicker(stateRhythm)
	defer state.Stop()
	for {
		var err error
		select {
		case <-r.Context().Done():
			return
		case <-c.closing.Done():
			return
		case <-queue.C:
			err = s.queue()
		case <-state.C:
			err = s.state()
		}
		if err != nil {
			return // the viewer has gone, or does not read
		}
	}
}

// stream is one viewer's.
type stream struct {
	c       *Console
	w       http.ResponseWriter
	rc      *http.ResponseController
	version uint64
	mark    uint64
	sent    map[string]string
	acts    string
	idle    int
}

func (s *stream) send(event string, data any) error {
	b, err := json.Marshal(data)
	if err != nil {
		return err
	}
	return s.write(fmt.Sprintf("event: %s\ndata: %s\n\n", event, b))
}

func (s *stream) write(text string) error {
	if s.c.o.Tick != nil {
		// A server that has no deadlines says so; the write itself then fails or not.
		_ = s.rc.SetWriteDeadline(s.c.o.Tick().Add(writeTimeout))
	}
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	s.idle = 0
	return s.rc.Flush()
}

func (s *stream) queue() error {
	version, _ := s.c.o.Book.Changes()
	if version == s.version {
		return nil
	}
	s.version = version
	left, mark := s.c.o.Book.Departures(s.mark)
	s.mark = mark
	news := queueNews{Version: version, Open: s.c.o.Book.Totals(s.c.o.Now()).Firing}
	for _, d := range left {
		news.Left = append(news.Left, departedNews{ID: d.AlertID, Reason: words(d.Reason)})
	}
	return s.send("queue", news)
}

// state sends the parts of the page that have changed since they were sent last, and something at all every 15 seconds, so that
// a connection that is dead is known to be.
func (s *stream) state() error {
	p := s.c.page("", "")
	parts := map[string]string{}
	for id, name := range map[string]string{"bar": "bar", "banners": "banners", "scores": "scores"} {
		if id == "scores" && p.Demo == nil {
			continue
		}
		html, err := s.c.fragment(name, p)
		if err != nil {
			return err
		}
		if s.sent[id] != html {
			s.sent[id], parts[id] = html, html
		}
	}
	if len(parts) > 0 {
		if err := s.send("parts", parts); err != nil {
			return err
		}
	}
	if p.Demo != nil {
		if err := s.demo(p.Demo); err != nil {
			return err
		}
	}
	if s.idle++; s.idle >= 15 {
		return s.write(": still here\n\n")
	}
	return nil
}

func (s *stream) demo(d *DemoState) error {
	acts := make([]actNews, 0, len(d.Acts))
	for i := range d.Acts {
		a := &d.Acts[i]
		acts = append(acts, actNews{Name: a.Name, Label: a.Label, Active: a.Active, Disabled: a.Disabled, Did: a.Did, Good: a.Good})
	}
	b, err := json.Marshal(acts)
	if err != nil || string(b) == s.acts {
		return err
	}
	s.acts = string(b)
	return s.send("acts", acts)
}
