package console

import (
	"fmt"
	"html/template"
	"math"
	"time"

	"ebb/cmd/ebb/internal/svg"
	"ebb/stream/event"
)

// spark draws twelve weeks of spend against the expected range. The line ends with the last full week.
func spark(weeks []span) template.HTML {
	const w, h, pad = 120.0, 28.0, 3.0
	var top event.Money
	known := 0
	for i := range weeks {
		if weeks[i].Known {
			known++
			top = max(top, weeks[i].Spend)
		}
		if weeks[i].Band {
			top = max(top, weeks[i].High)
		}
	}
	if known == 0 || top == 0 {
		return `<span class="spark none">no spend seen</span>`
	}
	x := func(i int) float64 { return pad + (w-2*pad)*float64(i)/float64(max(1, len(weeks)-1)) }
	y := func(m event.Money) float64 { return h - pad - (h-2*pad)*float64(max(0, m))/float64(top) }
	var b svg.Builder
	last := weeks[len(weeks)-1]
	text := fmt.Sprintf("Weekly spend, %d weeks to %s. Last week %s", known, day(last.To), money(last.Spend))
	if last.Band {
		text += fmt.Sprintf(", expected %s to %s", money(last.Low), money(last.High))
	}
	b.Add(`<svg class="spark" viewBox="0 0 %g %g" width="%g" height="%g" role="img">%s`, w, h, w, h, svg.Title(text))
	band(&b, weeks, x, y, 0)
	b.Add(`<path class="base" d="M%s %s H%s"/>`, svg.F1(pad), svg.F1(h-pad), svg.F1(w-pad))
	move := "M"
	b.WriteString(`<path class="line" d="`)
	for i := range weeks {
		if weeks[i].Known {
			b.Add("%s%s %s", move, svg.F1(x(i)), svg.F1(y(weeks[i].Spend)))
			move = "L"
		}
	}
	b.WriteString(`"/>`)
	end := "dot"
	if last.Band && last.Spend < last.Low {
		end = "dot low"
	}
	b.Add(`<circle class="%s" cx="%s" cy="%s" r="2.4"/></svg>`, end, svg.F1(x(len(weeks)-1)), svg.F1(y(last.Spend)))
	return b.HTML()
}

// band draws runs of expected ranges as areas; half widens each point to both sides.
func band(b *svg.Builder, spans []span, x func(int) float64, y func(event.Money) float64, half float64) {
	for i := 0; i < len(spans); i++ {
		if !spans[i].Band {
			continue
		}
		j := i
		for j+1 < len(spans) && spans[j+1].Band {
			j++
		}
		b.WriteString(`<path class="band" d="`)
		move := "M"
		for k := i; k <= j; k++ {
			b.Add("%s%s %s", move, svg.F1(x(k)-half), svg.F1(y(spans[k].High)))
			move = "L"
			if half > 0 {
				b.Add("H%s", svg.F1(x(k)+half))
			}
		}
		for k := j; k >= i; k-- {
			b.Add("L%s %s", svg.F1(x(k)+half), svg.F1(y(spans[k].Low)))
			if half > 0 {
				b.Add("H%s", svg.F1(x(k)-half))
			}
		}
		b.WriteString(`Z"/>`)
		i = j
	}
}

// means draws the middle of the expected range, over the bars.
func means(b *svg.Builder, spans []span, x func(int) float64, y func(event.Money) float64, half float64) {
	b.WriteString(`<path class="mean" d="`)
	move := "M"
	for i := range spans {
		if !spans[i].Band {
			move = "M"
			continue
		}
		b.Add("%s%s %sH%s", move, svg.F1(x(i)-half), svg.F1(y(spans[i].Mean)), svg.F1(x(i)+half))
		move = "L"
	}
	b.WriteString(`"/>`)
}

// mark is an instant worth seeing on the time axis.
type mark struct {
	at    time.Time
	class string // fired, since, step, resolved, truth
	label string
	hover string
}

// pictureData is what a customer's picture shows.
type pictureData struct {
	spans      []span // of equal length, in order
	complaints []Complaint
	marks      []mark
	currency   string
	zone       *time.Location
	now        time.Time
	unit       string // week or day
}

// show takes in of complaints and marks what lies within the picture's days.
func (d *pictureData) show(complaints []Complaint, marks []mark) {
	if len(d.spans) == 0 {
		return
	}
	from, to := d.ends()
	for i := range complaints {
		if c := &complaints[i]; c.Opened.Before(to) && (c.Resolved.IsZero() || c.Resolved.After(from)) {
			d.complaints = append(d.complaints, *c)
		}
	}
	for i := range marks {
		if m := &marks[i]; !m.at.Before(from) && !m.at.After(to.AddDate(0, 0, 1)) {
			d.marks = append(d.marks, *m)
		}
	}
}

// ends are the instants between which the picture lies. It reaches to now if its last day is today or yesterday.
func (d *pictureData) ends() (from, to time.Time) {
	from = midnight(d.spans[0].From, d.zone)
	to = midnight(d.spans[len(d.spans)-1].To+1, d.zone)
	if d.now.After(to) && d.now.Sub(to) < 48*time.Hour {
		to = d.now
	}
	return from, to
}

// layout is the geometry of a picture for a width.
type layout struct {
	w, left, right      float64
	spendTop, spendH    float64
	laneTop, laneH      float64
	usageTop, usageH    float64
	axisTop             float64
	lanes               int
	from, to            time.Time
	perDay              float64
	small               bool
	markRow, markTop, h float64
	top                 event.Money
	usageMax            int
}

// picture draws a customer: spend as bars against the expected range, complaints as spans, usage beneath, all on one time axis. Zero
// is on both axes.
func picture(d *pictureData, width float64) template.HTML {
	if len(d.spans) == 0 {
		return ""
	}
	l := arrange(d, width)
	var b svg.Builder
	b.Add(`<svg class="picture" viewBox="0 0 %g %g" width="%g" height="%g" aria-hidden="true">`, l.w, l.h, l.w, l.h)
	grid(&b, d, &l)
	spendBars(&b, d, &l)
	complaintLane(&b, d, &l)
	usageBars(&b, d, &l)
	timeAxis(&b, d, &l)
	drawMarks(&b, d, &l)
	b.WriteString("</svg>")
	return b.HTML()
}

func arrange(d *pictureData, width float64) layout {
	l := layout{w: width, left: 78, right: 12, small: width < 600, markTop: 4, spendH: 190, usageH: 64, laneH: 12}
	if l.small {
		l.left, l.right, l.spendH, l.usageH = 44, 6, 150, 50
	}
	for i := range d.spans {
		s := &d.spans[i]
		l.top = max(l.top, s.Spend)
		if s.Band {
			l.top = max(l.top, s.High)
		}
		l.usageMax = max(l.usageMax, s.Usage)
	}
	l.from, l.to = d.ends()
	l.perDay = (l.w - l.left - l.right) / (l.to.Sub(l.from).Hours() / 24)
	l.markRow = 15 * float64(markRows(d, &l))
	l.spendTop = l.markTop + l.markRow + 18
	l.laneTop = l.spendTop + l.spendH + 14
	if len(d.complaints) == 0 {
		l.laneH = 0
		l.usageTop = l.laneTop + 16
	} else {
		l.lanes = laneCount(d.complaints, d.now)
		l.usageTop = l.laneTop + float64(l.lanes)*l.laneH + 20
	}
	l.axisTop = l.usageTop + l.usageH
	l.h = l.axisTop + 22
	return l
}

func midnight(d Date, zone *time.Location) time.Time {
	t := d.Time()
	return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, zone)
}

func (l *layout) x(t time.Time) float64 { return l.left + t.Sub(l.from).Hours()/24*l.perDay }

func (l *layout) clamp(x float64) float64 { return min(max(x, l.left), l.w-l.right) }

func (l *layout) spendY(m event.Money) float64 {
	return l.spendTop + l.spendH - l.spendH*float64(max(0, m))/float64(max(1, l.top))
}

func (l *layout) usageY(n int) float64 {
	return l.usageTop + l.usageH - l.usageH*float64(n)/float64(max(1, l.usageMax))
}

func grid(b *svg.Builder, d *pictureData, l *layout) {
	step := svg.Step(float64(l.top)/float64(event.MoneyUnit), 5)
	for v := 0.0; event.Money(v*float64(event.MoneyUnit)) <= l.top; v += step {
		y := l.spendY(event.Money(v * float64(event.MoneyUnit)))
		b.Add(`<path class="grid" d="M%s %sH%s"/><text class="tick" x="%s" y="%s" text-anchor="end">%s</text>`,
			svg.F1(l.left), svg.F1(y), svg.F1(l.w-l.right), svg.F1(l.left-6), svg.F1(y+4), tickText(v))
		if l.top == 0 {
			break
		}
	}
	name := "spend a " + d.unit + ", " + d.currency
	b.Add(`<text class="axis" x="%s" y="%s">%s</text>`, svg.F1(l.left), svg.F1(l.spendTop-6), svg.Escape(name))
	b.Add(`<text class="axis" x="%s" y="%s">usage a %s</text>`, svg.F1(l.left), svg.F1(l.usageTop-6), d.unit)
	b.Add(`<path class="grid" d="M%s %sH%s"/>`, svg.F1(l.left), svg.F1(l.usageTop+l.usageH), svg.F1(l.w-l.right))
	b.Add(`<text class="tick" x="%s" y="%s" text-anchor="end">0</text>`, svg.F1(l.left-6), svg.F1(l.usageTop+l.usageH+4))
	if l.usageMax > 0 {
		b.Add(`<text class="tick" x="%s" y="%s" text-anchor="end">%d</text>`, svg.F1(l.left-6), svg.F1(l.usageTop+8), l.usageMax)
	}
}

func tickText(v float64) string {
	if v == math.Trunc(v) {
		return svg.Thousands(int64(v))
	}
	return fmt.Sprintf("%.2g", v)
}

func (l *layout) bar(d *pictureData, s *span) (x, w float64) {
	from, to := l.x(midnight(s.From, d.zone)), l.x(midnight(s.To+1, d.zone))
	gap := min(3, (to-from)*0.2)
	return from + gap/2, max(1, min(to, l.w-l.right)-from-gap)
}

func hoverText(d *pictureData, s *span) string {
	name := day(s.From)
	if s.To != s.From {
		name += " to " + day(s.To)
	}
	if !s.Known {
		return name + ": not known"
	}
	text := fmt.Sprintf("%s: %s %s, %s", name, money(s.Spend), d.currency, plural(s.Purchases, "purchase", "purchases"))
	if s.Refunds > 0 {
		text += ", " + plural(s.Refunds, "refund", "refunds")
	}
	text += ", usage " + count(s.Usage)
	if s.Band {
		text += fmt.Sprintf("; expected %s to %s", money(s.Low), money(s.High))
	}
	if s.Partial {
		text += " (not over yet)"
	}
	return text
}

func spendBars(b *svg.Builder, d *pictureData, l *layout) {
	x := func(i int) float64 { s := &d.spans[i]; bx, bw := l.bar(d, s); return bx + bw/2 }
	half := l.perDay * float64(d.spans[0].To-d.spans[0].From+1) / 2
	band(b, d.spans, x, l.spendY, half)
	for i := range d.spans {
		s := &d.spans[i]
		bx, bw := l.bar(d, s)
		b.WriteString(`<g class="slot">` + svg.Title(hoverText(d, s)))
		b.Add(`<rect class="hit" x="%s" y="%s" width="%s" height="%s"/>`, svg.F1(bx), svg.F1(l.spendTop), svg.F1(bw), svg.F1(l.axisTop-l.spendTop))
		class := "bar"
		switch {
		case !s.Known:
			b.Add(`<rect class="gap" x="%s" y="%s" width="%s" height="3"/></g>`, svg.F1(bx), svg.F1(l.spendTop+l.spendH-3), svg.F1(bw))
			continue
		case s.Partial:
			class = "bar partial"
		case s.Band && s.Spend < s.Low:
			class = "bar low"
		}
		y := l.spendY(s.Spend)
		if s.Spend > 0 || class == "bar low" {
			y = min(y, l.spendTop+l.spendH-2) // a trace of it is to be seen
		}
		b.Add(`<rect class="%s" x="%s" y="%s" width="%s" height="%s"/></g>`, class, svg.F1(bx), svg.F1(y), svg.F1(bw), svg.F1(l.spendTop+l.spendH-y))
	}
	means(b, d.spans, x, l.spendY, half)
}

func usageBars(b *svg.Builder, d *pictureData, l *layout) {
	for i := range d.spans {
		s := &d.spans[i]
		if !s.Known || s.Usage == 0 {
			continue
		}
		bx, bw := l.bar(d, s)
		y := min(l.usageY(s.Usage), l.usageTop+l.usageH-1)
		b.Add(`<rect class="use" x="%s" y="%s" width="%s" height="%s">%s</rect>`, svg.F1(bx), svg.F1(y), svg.F1(bw), svg.F1(l.usageTop+l.usageH-y),
			svg.Title(hoverText(d, s)))
	}
}

// laneOf gives every complaint a lane, so that spans of one lane do not overlap.
func laneOf(complaints []Complaint, now time.Time) []int {
	var ends []time.Time
	out := make([]int, len(complaints))
	for i := range complaints {
		c := &complaints[i]
		end := c.Resolved
		if end.IsZero() {
			end = now
		}
		lane := 0
		for lane < len(ends) && c.Opened.Before(ends[lane]) {
			lane++
		}
		if lane == len(ends) {
			ends = append(ends, end)
		} else {
			ends[lane] = end
		}
		out[i] = lane
	}
	return out
}

const lanesShown = 4

func laneCount(complaints []Complaint, now time.Time) int {
	n := 0
	for _, l := range laneOf(complaints, now) {
		n = max(n, l+1)
	}
	return min(n, lanesShown)
}

func complaintLane(b *svg.Builder, d *pictureData, l *layout) {
	if len(d.complaints) == 0 {
		return
	}
	b.Add(`<text class="tick" x="%s" y="%s" text-anchor="end">%s</text>`, svg.F1(l.left-6), svg.F1(l.laneTop+9), map[bool]string{true: "cmpl.", false: "complaints"}[l.small])
	for i, lane := range laneOf(d.complaints, d.now) {
		c := &d.complaints[i]
		if lane >= lanesShown {
			continue
		}
		end := c.Resolved
		if end.IsZero() {
			end = d.now
		}
		if end.Before(l.from) {
			continue
		}
		y := l.laneTop + float64(lane)*l.laneH
		x, to := l.clamp(l.x(c.Opened)), l.clamp(l.x(end))
		b.Add(`<g>%s<rect class="complaint %s" x="%s" y="%s" width="%s" height="%s" rx="2"/>`, svg.Title(complaintText(c, d.zone)),
			complaintState(c), svg.F1(x), svg.F1(y), svg.F1(max(3, to-x)), svg.F1(l.laneH-3))
		if !c.Responded.IsZero() && c.Responded.After(l.from) && c.Responded.Before(end) {
			b.Add(`<path class="answer" d="M%s %sV%s"/>`, svg.F1(l.clamp(l.x(c.Responded))), svg.F1(y), svg.F1(y+l.laneH-3))
		}
		b.WriteString("</g>")
	}
}

func complaintState(c *Complaint) string {
	switch {
	case !c.Resolved.IsZero():
		return "resolved"
	case !c.Responded.IsZero():
		return "answered"
	}
	return "waiting"
}

func complaintText(c *Complaint, zone *time.Location) string {
	at := func(t time.Time) string { return t.In(zone).Format("2 Jan 15:04") }
	text := fmt.Sprintf("Complaint %s, %s, opened %s", c.ID, c.Priority, at(c.Opened))
	if c.Responded.IsZero() {
		text += ", not answered"
	} else {
		text += ", answered " + at(c.Responded)
	}
	if c.Resolved.IsZero() {
		return text + ", open"
	}
	return text + ", resolved " + at(c.Resolved)
}

// timeAxis has a tick at the beginning of each week, or of each second or fourth where there is little room.
func timeAxis(b *svg.Builder, d *pictureData, l *layout) {
	every := 7
	for float64(every)*l.perDay < 52 {
		every *= 2
	}
	for t := l.from; t.Before(l.to); t = t.AddDate(0, 0, every) {
		x := l.x(t)
		if x > l.w-l.right-24 {
			break
		}
		b.Add(`<path class="grid" d="M%s %sv4"/><text class="tick" x="%s" y="%s">%s</text>`, svg.F1(x), svg.F1(l.axisTop), svg.F1(x), svg.F1(l.axisTop+16),
			t.Format("2 Jan"))
	}
}

// labelWidth is about how wide a mark's label is.
func labelWidth(m *mark) float64 { return float64(len(m.label))*6.2 + 10 }

// placeMarks gives each label a row in which it does not run into another.
func placeMarks(d *pictureData, l *layout) []int {
	var ends []float64
	rows := make([]int, len(d.marks))
	for i := range d.marks {
		m := &d.marks[i]
		x := l.labelAt(m)
		row := 0
		for row < len(ends) && x < ends[row] {
			row++
		}
		if row == len(ends) {
			ends = append(ends, 0)
		}
		ends[row] = x + labelWidth(m)
		rows[i] = row
	}
	return rows
}

// labelAt is where a mark's label begins: at the mark, or further left if it would leave the picture.
func (l *layout) labelAt(m *mark) float64 {
	return max(l.left, min(l.clamp(l.x(m.at)), l.w-l.right-labelWidth(m)))
}

func markRows(d *pictureData, l *layout) int {
	n := 0
	for _, r := range placeMarks(d, l) {
		n = max(n, r+1)
	}
	return n
}

func drawMarks(b *svg.Builder, d *pictureData, l *layout) {
	rows := placeMarks(d, l)
	for i := range d.marks {
		m := &d.marks[i]
		x, y := l.clamp(l.x(m.at)), l.markTop+15*float64(rows[i])
		b.Add(`<g class="mark %s">%s<path d="M%s %sV%s"/>`, m.class, svg.Title(m.hover), svg.F1(x), svg.F1(y+13), svg.F1(l.axisTop))
		b.Add(`<text x="%s" y="%s">%s</text></g>`, svg.F1(l.labelAt(m)), svg.F1(y+11), svg.Escape(m.label))
	}
}

// growth draws one small multiple: a number that grows over the days of the demo, and the line that it is measured against.
func growth(values, against []int, label string) template.HTML {
	const w, h = 150.0, 36.0
	top := 1
	for i := range values {
		top = max(top, values[i], against[i])
	}
	var b svg.Builder
	b.Add(`<svg class="growth" viewBox="0 0 %g %g" width="%g" height="%g" role="img">%s`, w, h, w, h, svg.Title(label))
	b.Add(`<path class="base" d="M0 %gH%g"/>`, h-1, w)
	line := func(v []int, class string, area bool) {
		if len(v) < 2 {
			return
		}
		b.Add(`<path class="%s" d="`, class)
		for i, n := range v {
			b.Add("%s%s %s", map[bool]string{true: "M", false: "L"}[i == 0], svg.F1(w*float64(i)/float64(len(v)-1)), svg.F1(h-1-(h-3)*float64(n)/float64(top)))
		}
		if area {
			b.Add("V%gH0Z", h-1)
		}
		b.WriteString(`"/>`)
	}
	line(values, "area", true)
	line(values, "line", false)
	line(against, "against", false)
	b.WriteString("</svg>")
	return b.HTML()
}
