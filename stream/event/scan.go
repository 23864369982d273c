package event

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// The scanner walks over one JSON object once, checks all of it, and notes where the fields lie that a mapping reads.
// It is written by hand because this is the path of every record: a general tokenizer gives back each key and each value
// that nobody asked for. What is looked for is a tree of names (node), compiled once; what is found lies in spans.

// maxDepth bounds nested objects and arrays, and so the stack.
const maxDepth = 512

// maxSlots is the number of different places a mapping can read: the bits of a set.
const maxSlots = 64

// valueKind tells JSON values apart.
type valueKind uint8

const (
	valueNull valueKind = iota
	valueString
	valueNumber
	valueBool
	valueComposite // object or array
)

// span is where a value lies in the record: for a string the bytes between the quotes.
type span struct {
	start, end int32
	kind       valueKind
	escaped    bool
}

// node is one level of the tree of names.
type node struct {
	children []edge
	heads    [nodeBuckets]int8 // by hash of the name: index of the first child + 1
	first    int8              // index of the child that came first in the last record
	below    uint64            // slots of all children: a repeated object forgets what the first one said
	strict   bool              // a name that is not here is noted as unknown
}

// edge is a name of a node: a slot to fill (or -1), and a node for the names inside it (or nil).
type edge struct {
	name  string
	text  string // how JSON has it, with its quotes and the colon; "" if there are several ways
	slot  int8
	inner *node
	next  int8 // index + 1 of the next child with the same hash
	after int8 // index of the child that followed this one in the last record: the first guess
}

const nodeBuckets = 64

func nameHash[T string | []byte](s T) int {
	n := len(s)
	if n == 0 {
		return 0
	}
	return (n*7 + int(s[0])*3 + int(s[n-1])) % nodeBuckets
}

// child returns the edge of name, created if it is missing. It is valid until the next one is created.
func (n *node) child(name string) *edge {
	if i := n.find([]byte(name)); i >= 0 {
		return &n.children[i]
	}
	h := nameHash(name)
	n.children = append(n.children, edge{name: name, text: plainText(name), slot: -1, next: n.heads[h]})
	n.heads[h] = int8(len(n.children))
	return &n.children[len(n.children)-1]
}

// plainText returns a name as JSON has it, or "" if it holds a character that has to be escaped or lies beyond ASCII.
func plainText(name string) string {
	for i := range len(name) {
		if c := name[i]; c < 0x20 || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			return ""
		}
	}
	return `"` + name + `":`
}

// find returns the index of a name's edge, or -1.
func (n *node) find(name []byte) int {
	i := int(n.heads[nameHash(name)]) - 1
	for i >= 0 && string(name) != n.children[i].name {
		i = int(n.children[i].next) - 1
	}
	return i
}

// close computes below for the whole tree and returns the slots of n.
func (n *node) close() uint64 {
	n.below = 0
	for i := range n.children {
		e := &n.children[i]
		if e.slot >= 0 {
			n.below |= 1 << e.slot
		}
		if e.inner != nil {
			n.below |= e.inner.close()
		}
	}
	return n.below
}

// scanner holds what the last scan found.
type scanner struct {
	buf     []byte
	spans   [maxSlots]span
	found   uint64 // slots that are filled
	high    bool   // a byte of 0x80 or more was seen in a string
	unknown bool   // a strict node met a name that it does not know
	name    []byte // scratch for names that are written with escapes
}

// fault is a syntax error; the scanner's position is then meaningless.
type fault uint8

const (
	faultNone fault = iota
	faultSyntax
	faultEnd   // the record ends too early
	faultDepth // nested deeper than maxDepth
	faultRoot  // not an object
)

// scan walks over the record. On a fault the fields found so far stay, for a hint whom the record concerns.
func (s *scanner) scan(buf []byte, root *node) fault {
	s.buf, s.found, s.high, s.unknown = buf, 0, false, false
	i := s.blank(0)
	if i == len(buf) || buf[i] != '{' {
		return faultRoot
	}
	i, f := s.object(i+1, root, 1)
	if f != faultNone {
		return f
	}
	if s.blank(i) != len(buf) {
		return faultSyntax
	}
	return faultNone
}

func (s *scanner) blank(i int) int {
	for i < len(s.buf) && s.buf[i] <= ' ' && isBlank(s.buf[i]) {
		i++
	}
	return i
}

func isBlank(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

// object walks over an object's members from behind its brace. n may be nil: nothing inside is looked for.
func (s *scanner) object(i int, n *node, depth int) (int, fault) {
	if depth > maxDepth {
		return i, faultDepth
	}
	i = s.blank(i)
	if i < len(s.buf) && s.buf[i] == '}' {
		return i + 1, faultNone
	}
	var last *edge
	for {
		e, at := s.expected(i, n, last)
		var f fault
		if e != nil {
			i = at
		} else if e, i, f = s.key(i, n, last); f != faultNone {
			return i, f
		}
		if i = s.blank(i); i == len(s.buf) {
			return i, faultEnd
		}
		if e == nil {
			i, f = s.skip(i, depth)
		} else {
			last = e
			i, f = s.member(i, e, depth)
		}
		if f != faultNone {
			return i, f
		}
		if i = s.blank(i); i == len(s.buf) {
			return i, faultEnd
		}
		switch s.buf[i] {
		case ',':
			i = s.blank(i + 1)
		case '}':
			return i + 1, faultNone
		default:
			return i, faultSyntax
		}
	}
}

// expected compares the next name with the one that followed last in the record before: the records of a feed mostly have
// the same names in the same order, so most names are one comparison. It returns nil for any other name.
func (s *scanner) expected(i int, n *node, last *edge) (*edge, int) {
	if n == nil {
		return nil, i
	}
	j := n.first
	if last != nil {
		j = last.after
	}
	if int(j) >= len(n.children) {
		return nil, i
	}
	e := &n.children[j]
	end := i + len(e.text)
	if end > len(s.buf) || e.text == "" || string(s.buf[i:end]) != e.text {
		return nil, i
	}
	return e, end
}

// key walks over a name and its colon. last is the member of n before this one.
func (s *scanner) key(i int, n *node, last *edge) (*edge, int, fault) {
	if i == len(s.buf) {
		return nil, i, faultEnd
	}
	if s.buf[i] != '"' {
		return nil, i, faultSyntax
	}
	v, i, f := s.text(i + 1)
	if f != faultNone {
		return nil, i, f
	}
	var e *edge
	if n != nil {
		e = s.lookUp(n, v, last)
	}
	if i = s.blank(i); i == len(s.buf) {
		return nil, i, faultEnd
	}
	if s.buf[i] != ':' {
		return nil, i, faultSyntax
	}
	return e, i + 1, faultNone
}

// lookUp finds a name's edge, and remembers it as what follows last.
func (s *scanner) lookUp(n *node, v span, last *edge) *edge {
	name := s.buf[v.start:v.end]
	if v.escaped {
		s.name = unescape(s.name[:0], name)
		name = s.name
	}
	i := n.find(name)
	if i < 0 {
		s.unknown = s.unknown || n.strict
		return nil
	}
	if last != nil {
		last.after = int8(i)
	} else {
		n.first = int8(i)
	}
	return &n.children[i]
}

// member walks over a value that is looked for.
func (s *scanner) member(i int, e *edge, depth int) (int, fault) {
	if e.inner != nil {
		s.found &^= e.inner.below
	}
	var v span
	var f fault
	switch c := s.buf[i]; {
	case c == '"':
		v, i, f = s.text(i + 1)
	case c == '{' && e.inner != nil:
		v.kind = valueComposite
		i, f = s.object(i+1, e.inner, depth+1)
	default:
		v.start, v.kind = int32(i), kindOf(c)
		i, f = s.skip(i, depth)
		v.end = int32(i)
	}
	if f != faultNone {
		return i, f
	}
	if e.slot >= 0 {
		s.spans[e.slot&(maxSlots-1)] = v
		s.found |= 1 << e.slot
	}
	return i, faultNone
}

// kindOf tells a value by its first byte; whether it is one at all is found by skip.
func kindOf(c byte) valueKind {
	switch c {
	case 'n':
		return valueNull
	case 't', 'f':
		return valueBool
	case '{', '[':
		return valueComposite
	default:
		return valueNumber
	}
}

// skip walks over any value.
func (s *scanner) skip(i, depth int) (int, fault) {
	switch s.buf[i] {
	case '"':
		_, i, f := s.text(i + 1)
		return i, f
	case '{':
		return s.object(i+1, nil, depth+1)
	case '[':
		return s.array(i+1, depth+1)
	case 't':
		return s.literal(i, "true")
	case 'f':
		return s.literal(i, "false")
	case 'n':
		return s.literal(i, "null")
	default:
		return s.number(i)
	}
}

func (s *scanner) array(i, depth int) (int, fault) {
	if depth > maxDepth {
		return i, faultDepth
	}
	i = s.blank(i)
	if i < len(s.buf) && s.buf[i] == ']' {
		return i + 1, faultNone
	}
	for {
		if i == len(s.buf) {
			return i, faultEnd
		}
		var f fault
		if i, f = s.skip(i, depth); f != faultNone {
			return i, f
		}
		if i = s.blank(i); i == len(s.buf) {
			return i, faultEnd
		}
		switch s.buf[i] {
		case ',':
			i = s.blank(i + 1)
		case ']':
			return i + 1, faultNone
		default:
			return i, faultSyntax
		}
	}
}

func (s *scanner) literal(i int, want string) (int, fault) {
	rest := s.buf[i:]
	if len(rest) >= len(want) {
		if string(rest[:len(want)]) == want {
			return i + len(want), faultNone
		}
		return i, faultSyntax
	}
	if string(rest) == want[:len(rest)] {
		return i, faultEnd
	}
	return i, faultSyntax
}

// number walks over -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)? and checks that it ends there, so that no part of a
// broken number is taken for a customer.
func (s *scanner) number(i int) (int, fault) {
	b := s.buf
	if b[i] == '-' {
		i++
	}
	if i == len(b) {
		return i, faultEnd
	}
	switch c := b[i]; {
	case c == '0':
		i++
	case c-'1' < 9:
		i = digits(b, i)
	default:
		return i, faultSyntax
	}
	if i < len(b) && b[i] == '.' {
		start := i + 1
		if i = digits(b, start); i == start {
			return i, missingDigit(b, i)
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		start := i
		if i = digits(b, start); i == start {
			return i, missingDigit(b, i)
		}
	}
	if i == len(b) {
		return i, faultEnd
	}
	if c := b[i]; c != ',' && c != '}' && c != ']' && !isBlank(c) {
		return i, faultSyntax
	}
	return i, faultNone
}

func missingDigit(b []byte, i int) fault {
	if i == len(b) {
		return faultEnd
	}
	return faultSyntax
}

func digits(b []byte, i int) int {
	for i < len(b) && b[i]-'0' <= 9 {
		i++
	}
	return i
}

// Words of eight bytes in which each byte has its lowest or its highest bit.
const (
	lowBits  = 0x0101010101010101
	highBits = 0x8080808080808080
)

// text walks over a string from behind its opening quote, eight bytes at a time as long as there are eight.
func (s *scanner) text(i int) (span, int, fault) {
	b := s.buf
	v := span{start: int32(i), kind: valueString}
	for {
		for i+8 <= len(b) {
			w := binary.LittleEndian.Uint64(b[i:])
			// The highest bit of a byte of stop is set where the byte may be a quote, a backslash, below 0x20, or above 0x7f.
			// A borrow may set it wrongly, but only above a byte where it is set rightly: the first one is right.
			quote, slash := w^(lowBits*'"'), w^(lowBits*'\\')
			stop := ((quote - lowBits) | (slash - lowBits) | (w - lowBits*0x20) | w) & highBits
			if stop != 0 {
				i += bits.TrailingZeros64(stop) / 8
				break
			}
			i += 8
		}
		if i >= len(b) {
			return v, i, faultEnd
		}
		switch c := b[i]; {
		case c == '"':
			v.end = int32(i)
			return v, i + 1, faultNone
		case c == '\\':
			v.escaped = true
			var f fault
			if i, f = s.escape(i + 1); f != faultNone {
				return v, i, f
			}
		case c < 0x20:
			return v, i, faultSyntax
		case c >= utf8.RuneSelf:
			s.high = true
			for i++; i < len(b) && b[i] >= utf8.RuneSelf; i++ {
			}
		default:
			i++
		}
	}
}

// escape walks over what follows a backslash.
func (s *scanner) escape(i int) (int, fault) {
	b := s.buf
	if i == len(b) {
		return i, faultEnd
	}
	switch b[i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 1, faultNone
	case 'u':
		for k := i + 1; k < i+5; k++ {
			if k == len(b) {
				return k, faultEnd
			}
			if hex(b[k]) < 0 {
				return k, faultSyntax
			}
		}
		return i + 5, faultNone
	default:
		return i, faultSyntax
	}
}

func hex(c byte) rune {
	switch {
	case c-'0' <= 9:
		return rune(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return rune(c|0x20-'a') + 10
	default:
		return -1
	}
}

// unescape appends the text that a checked JSON string stands for. Half a surrogate pair becomes U+FFFD, as in
// encoding/json.
func unescape(dst, b []byte) []byte {
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' {
			dst = append(dst, b[i])
			continue
		}
		i++
		switch b[i] {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r := hex4(b[i+1:])
			i += 4
			if isSurrogate(r) {
				r, i = pair(r, b, i)
			}
			dst = utf8.AppendRune(dst, r)
		default:
			dst = append(dst, b[i])
		}
	}
	return dst
}

func hex4(b []byte) rune { return hex(b[0])<<12 | hex(b[1])<<8 | hex(b[2])<<4 | hex(b[3]) }

func isSurrogate(r rune) bool { return r >= 0xd800 && r < 0xe000 }

// pair returns the rune of the surrogate r and the one that follows b[i], if it does, and the new place.
func pair(r rune, b []byte, i int) (rune, int) {
	if r < 0xdc00 && i+6 < len(b) && b[i+1] == '\\' && b[i+2] == 'u' {
		if low := hex4(b[i+3:]); low >= 0xdc00 && low < 0xe000 {
			return (r-0xd800)<<10 | (low - 0xdc00) + 0x10000, i + 6
		}
	}
	return utf8.RuneError, i
}
