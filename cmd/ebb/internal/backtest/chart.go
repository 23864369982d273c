package backtest

import (
	"fmt"
	"html/template"
	"slices"

	"ebb/cmd/ebb/internal/svg"
	"ebb/detectors"
)

// frame is the area of a picture in which curves are drawn, and how figures become places in it.
type frame struct {
	svg.Builder
	w, h                     float64
	left, right, top, bottom float64
	maxX, maxY               float64
}

func newFrame(w, h, maxX, maxY float64, label string) *frame {
	f := &frame{w: w, h: h, left: 44, right: 18, top: 8, bottom: 34, maxX: maxX, maxY: maxY}
	f.Add(`<svg class="picture" viewBox="0 0 %s %s" role="img">%s`, svg.F1(w), svg.F1(h), svg.Title(label))
	return f
}

func (f *frame) x(v float64) float64 { return f.left + (f.w-f.left-f.right)*v/f.maxX }
func (f *frame) y(v float64) float64 { return f.h - f.bottom - (f.h-f.top-f.bottom)*v/f.maxY }

// rows draws horizontal lines with figures.
func (f *frame) rows(step float64, text func(float64) string) {
	for i := 0; ; i++ {
		v := float64(i) * step
		if v > f.maxY*1.0001 {
			return
		}
		f.Add(`<path class="grid" d="M%s %sH%s"/><text class="tick" x="%s" y="%s" text-anchor="end">%s</text>`,
			svg.F1(f.left), svg.F1(f.y(v)), svg.F1(f.w-f.right), svg.F1(f.left-6), svg.F1(f.y(v)+4), text(v))
	}
}

// columns writes figures below.
func (f *frame) columns(step float64, text func(float64) string) {
	for i := 0; ; i++ {
		v := float64(i) * step
		if v > f.maxX*1.0001 {
			return
		}
		f.Add(`<path class="grid" d="M%s %sv4"/><text class="tick" x="%s" y="%s" text-anchor="middle">%s</text>`,
			svg.F1(f.x(v)), svg.F1(f.h-f.bottom), svg.F1(f.x(v)), svg.F1(f.h-f.bottom+16), text(v))
	}
}

func (f *frame) below(text string) {
	f.Add(`<text class="axis" x="%s" y="%s" text-anchor="middle">%s</text>`, svg.F1((f.left+f.w-f.right)/2), svg.F1(f.h-3), svg.Escape(text))
}

func (f *frame) end() template.HTML {
	f.WriteString("</svg>")
	return f.HTML()
}

func percentText(v float64) string { return fmt.Sprintf("%.0f%%", 100*v) }

// reach is up to which share an axis goes that has to show one: not far beyond.
func reach(share float64) float64 {
	for _, top := range []float64{.04, .08, .2, .4} {
		if share <= top {
			return top
		}
	}
	return 1
}

// mostBars is how many bars a picture of alerts over time has at most.
const mostBars = 80

// overTime draws alerts a week, stacked by detector. Long histories have several weeks in a bar.
func overTime(weeks []Week, names []string, colour func(string) int, w float64) template.HTML {
	per := (len(weeks) + mostBars - 1) / mostBars
	var bars [][]float64
	var from []string
	top := 1.0
	for i := 0; i < len(weeks); i += per {
		part := weeks[i:min(i+per, len(weeks))]
		bar, sum := make([]float64, len(names)), 0.0
		for _, week := range part {
			for j, n := range names {
				bar[j] += float64(week.Alerts[n]) / float64(len(part))
			}
		}
		for _, v := range bar {
			sum += v
		}
		top = max(top, sum)
		bars, from = append(bars, bar), append(from, part[0].From)
	}
	step := svg.Step(top, 4)
	f := newFrame(w, 210, float64(len(bars)), top, "Alerts a week over the history, by detector")
	f.rows(step, func(v float64) string { return svg.F1(v) })
	for i, bar := range bars {
		below, text := 0.0, "week of "+from[i]+":"
		for j, v := range bar {
			text += fmt.Sprintf(" %s %s", svg.F1(v), names[j])
		}
		f.WriteString("<g>" + svg.Title(text))
		f.Add(`<rect class="hit" x="%s" y="%s" width="%s" height="%s"/>`, svg.F1(f.x(float64(i))), svg.F1(f.top), svg.F1(f.x(1)-f.x(0)), svg.F1(f.h-f.top-f.bottom))
		for j, v := range bar {
			if v > 0 {
				f.Add(`<rect class="d%d" x="%s" y="%s" width="%s" height="%s"/>`, colour(names[j]), svg.F1(f.x(float64(i)+.1)), svg.F1(f.y(below+v)),
					svg.F1(max(.8, f.x(.8)-f.x(0))), svg.F1(f.y(below)-f.y(below+v)))
			}
			below += v
		}
		f.WriteString("</g>")
	}
	every := max(1, int(float64(len(bars))*76/(w-f.left)+.999))
	for i := 0; i+every/2 < len(bars); i += every {
		f.Add(`<path class="grid" d="M%s %sv4"/><text class="tick" x="%s" y="%s">%s</text>`, svg.F1(f.x(float64(i))), svg.F1(f.h-f.bottom),
			svg.F1(f.x(float64(i))), svg.F1(f.h-f.bottom+16), from[i])
	}
	return f.end()
}

// calibration draws what came true against what was told.
func calibration(m *ModelReport, w float64) template.HTML {
	top := 0.0
	for _, b := range slices.Concat(m.Calibration, m.High) {
		top = max(top, b.Told, b.Stopped)
	}
	top = reach(top)
	f := newFrame(w, 300, top, top, "Calibration: the share that stopped against the probability that was told")
	f.rows(top/4, percentText)
	f.columns(top/4, percentText)
	f.below("told: probability to stop; height: how many did")
	f.Add(`<path class="ideal" d="M%s %sL%s %s"/>`, svg.F1(f.x(0)), svg.F1(f.y(0)), svg.F1(f.x(top)), svg.F1(f.y(top)))
	f.WriteString(`<path class="curve" d="`)
	for i, b := range m.Calibration {
		f.Add("%s%s %s", map[bool]string{true: "M", false: "L"}[i == 0], svg.F1(f.x(b.Told)), svg.F1(f.y(b.Stopped)))
	}
	f.WriteString(`"/>`)
	for _, b := range m.Calibration {
		f.Add(`<circle class="point" cx="%s" cy="%s" r="4">%s</circle>`, svg.F1(f.x(b.Told)), svg.F1(f.y(b.Stopped)),
			svg.Title(fmt.Sprintf("told %.1f %%, came true for %.1f %% of %s", 100*b.Told, 100*b.Stopped, svg.Thousands(int64(b.Looks)))))
	}
	for _, b := range m.High {
		text := fmt.Sprintf("told %.1f %%, came true for %.1f %% of %s", 100*b.Told, 100*b.Stopped, svg.Thousands(int64(b.Looks)))
		f.Add(`<g class="high">%s<rect x="%s" y="%s" width="9" height="9"/><text x="%s" y="%s" text-anchor="end">%s</text></g>`, svg.Title(text),
			svg.F1(f.x(b.Told)-4.5), svg.F1(f.y(b.Stopped)-4.5), svg.F1(f.x(b.Told)-9), svg.F1(f.y(b.Stopped)+4), svg.Thousands(int64(b.Looks)))
	}
	return f.end()
}

// threshold is one point of a curve of precision against recall.
type threshold struct {
	at string
	Cost
}

// silenceCurve draws what silence alerts at other probabilities would have been, and where the rules really were.
func (r *Report) silenceCurve(w float64) template.HTML {
	var points []threshold
	if r.Model != nil {
		for _, t := range slices.Backward(r.Model.Thresholds) {
			points = append(points, threshold{fmt.Sprintf("from %.0f %% on", 100*t.Probability), t.Cost})
		}
	}
	return r.precisionRecall(detectors.SilenceName, "departures", points, w)
}

// outflowCurve does the same for outflow alerts at other falls of the balance.
func (r *Report) outflowCurve(w float64) template.HTML {
	var points []threshold
	for _, t := range slices.Backward(r.Outflow.Thresholds) {
		points = append(points, threshold{fmt.Sprintf("fallen by %d %%", t.FellPercent), t.Cost})
	}
	return r.precisionRecall(detectors.OutflowName, "accounts", points, w)
}

// precisionRecall draws thresholds of a detector as a curve, by rising recall, and where the rules really were. lost is what had to be found.
func (r *Report) precisionRecall(detector, lost string, points []threshold, w float64) template.HTML {
	f := newFrame(w, 300, 1, 1, "Precision against recall of "+detector+" alerts over all thresholds")
	f.rows(.25, percentText)
	f.columns(.25, percentText)
	f.below("recall: " + lost + " found; height: alerts that were right")
	points = slices.DeleteFunc(points, func(t threshold) bool { return t.Precision == nil || t.Recall == nil })
	if len(points) != 0 {
		f.WriteString(`<path class="curve" d="`)
		for i, t := range points {
			f.Add("%s%s %s", map[bool]string{true: "M", false: "L"}[i == 0], svg.F1(f.x(*t.Recall)), svg.F1(f.y(*t.Precision)))
		}
		f.WriteString(`"/>`)
		for _, t := range points {
			f.Add(`<circle class="point small" cx="%s" cy="%s" r="2.5">%s</circle>`, svg.F1(f.x(*t.Recall)), svg.F1(f.y(*t.Precision)),
				svg.Title(fmt.Sprintf("%s: %d alerts, %.0f %% right, %.0f %% of %s", t.at, t.Alerts, 100**t.Precision, 100**t.Recall, lost)))
		}
	}
	for i := range r.Methods {
		d := r.Methods[i].detector(detector)
		if d == nil || d.Precision == nil || d.Recall == nil || i > 0 && !slices.Contains(names(r.Shown(i)), detector) {
			continue
		}
		x, y := f.x(*d.Recall), f.y(*d.Precision)
		anchor, dx := "start", 9.0
		if x > f.w*2/3 {
			anchor, dx = "end", -9
		}
		f.Add(`<g class="method m%d">%s<rect x="%s" y="%s" width="10" height="10"/><text x="%s" y="%s" text-anchor="%s">%s</text></g>`, i,
			svg.Title(fmt.Sprintf("%s: %.0f %% right, %.0f %% of %s", r.Methods[i].Name, 100**d.Precision, 100**d.Recall, lost)),
			svg.F1(x-5), svg.F1(y-5), svg.F1(x+dx), svg.F1(y+4), anchor, svg.Escape(r.Methods[i].Name))
	}
	return f.end()
}
