// Package svg writes the pictures of the page and of the reports: elements one after another, figures in the form that takes least room, and axes with
// round numbers.
//
// Colours and strokes are none of its business: elements bear classes, and the style sheet of the page follows the reader's light or dark setting.
package svg

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
)

// Builder collects the elements of a picture.
type Builder struct{ strings.Builder }

// Add appends an element, as fmt.Sprintf writes it. Text has to be escaped by the caller: Escape, Title.
func (b *Builder) Add(format string, args ...any) { fmt.Fprintf(&b.Builder, format, args...) }

// HTML is the picture for a template.
func (b *Builder) HTML() template.HTML { return template.HTML(b.String()) }

// Title is what is shown on hover. Text is escaped.
func Title(text string) string { return "<title>" + Escape(text) + "</title>" }

// Escape makes text that may stand in an element.
func Escape(text string) string { return template.HTMLEscapeString(text) }

// F1 is a length with at most one decimal.
func F1(x float64) string {
	return strings.TrimSuffix(fmt.Sprintf("%.1f", x), ".0")
}

// Step is a step of 1, 2 or 5 times a power of ten that makes at most n of it reach top; 1 where top is not above 0.
func Step(top float64, n int) float64 {
	if top <= 0 {
		return 1
	}
	raw := top / float64(n)
	p := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, m := range []float64{1, 2, 5, 10} {
		if m*p >= raw {
			return m * p
		}
	}
	return 10 * p
}

// Thousands writes a whole number with its thousands apart: 1,234.
func Thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	var b strings.Builder
	for i, r := range s {
		if i > 0 && (len(s)-i)%3 == 0 && s[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(r)
	}
	return b.String()
}
