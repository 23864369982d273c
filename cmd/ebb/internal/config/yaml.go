package config

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// reader turns the syntax tree of one file into values, and collects every fault on the way. goccy/go-yaml's own
// decoder stops at the first fault and knows nothing of the environment; its parser gives the tree with positions.
type reader struct {
	file    string
	env     func(string) (string, bool)
	faults  Faults
	at      map[string]*token.Position // of each value read, by dotted path
	keys    map[string]*token.Position // of each key read
	anchors map[string]ast.Node
	tree    *field // for suggestions
	nodes   int
}

// maxNodes bounds what aliases can blow up to.
const maxNodes = 100_000

func (r *reader) fault(pos *token.Position, path, what, mend string) {
	f := Fault{File: r.file, Path: path, What: what, Mend: mend}
	if pos != nil {
		f.Line, f.Column = pos.Line, pos.Column
	}
	r.faults = append(r.faults, f)
}

// faultErr makes a fault of an error that reads "what; mend" or "what: mend".
func (r *reader) faultErr(pos *token.Position, path string, err error) {
	what, mend, ok := strings.Cut(err.Error(), "; ")
	if !ok {
		what, mend, ok = strings.Cut(err.Error(), ": ")
	}
	if !ok {
		mend = "see docs/configuration.md"
	}
	r.fault(pos, path, what, mend)
}

// faultAt reports a fault of the value at path, or of the nearest thing around it that stands in the file.
func (r *reader) faultAt(path, what, mend string) {
	r.fault(r.position(path), path, what, mend)
}

func (r *reader) position(path string) *token.Position {
	for p := path; ; {
		if pos := r.at[p]; pos != nil {
			return pos
		}
		if pos := r.keys[p]; pos != nil {
			return pos
		}
		if p == "" {
			return nil
		}
		cut := strings.LastIndexAny(p, ".[")
		p = p[:max(cut, 0)]
	}
}

// parse gives the root mapping of the file, or nil with the faults set. An empty file is an empty mapping.
func (r *reader) parse(src []byte) ast.Node {
	f, err := parser.ParseBytes(src, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		var y yaml.Error
		if errors.As(err, &y) && y.GetToken() != nil {
			r.fault(y.GetToken().Position, "", "is not YAML: "+y.GetMessage(), syntaxMend(src, y.GetToken().Position.Line))
		} else {
			r.fault(nil, "", "is not YAML: "+err.Error(), "mend the syntax")
		}
		return nil
	}
	var docs []ast.Node
	for _, d := range f.Docs {
		if d.Body != nil {
			docs = append(docs, d.Body)
		}
	}
	if len(docs) > 1 {
		r.fault(docs[1].GetToken().Position, "", "holds a second YAML document", "keep one document a file")
	}
	if len(docs) == 0 {
		return nil
	}
	ast.Walk(anchorFinder{r.anchors}, docs[0])
	return docs[0]
}

// syntaxMend is what to do about broken syntax in a line. A reference inside braces is the mistake that looks least like one.
func syntaxMend(src []byte, line int) string {
	lines := strings.Split(string(src), "\n")
	if line <= len(lines) && strings.Contains(lines[line-1], "${") {
		return "inside { } and [ ] write references in quotes, as in \"${NAME}\""
	}
	return "mend the syntax; the rest of the file was not looked at"
}

type anchorFinder struct{ anchors map[string]ast.Node }

func (a anchorFinder) Visit(n ast.Node) ast.Visitor {
	if n, ok := n.(*ast.AnchorNode); ok {
		a.anchors[n.Name.String()] = n.Value
	}
	return a
}

// plain follows anchors, aliases and tags to the node that holds the value.
func (r *reader) plain(n ast.Node, path string) ast.Node {
	for range 32 {
		switch x := n.(type) {
		case *ast.AnchorNode:
			n = x.Value
		case *ast.TagNode:
			n = x.Value
		case *ast.MappingKeyNode:
			n = x.Value
		case *ast.AliasNode:
			target, ok := r.anchors[x.Value.String()]
			if !ok {
				r.fault(x.GetToken().Position, path, "refers to *"+x.Value.String()+", which is not anchored", "write &"+x.Value.String()+" before the value meant")
				return nil
			}
			n = target
		default:
			return n
		}
	}
	r.fault(n.GetToken().Position, path, "refers to itself", "take the alias out")
	return nil
}

// entry is one key of a mapping.
type entry struct {
	key   string
	pos   *token.Position
	value ast.Node
}

// entries lists the keys of a mapping, merge keys (<<) resolved, repeated keys reported.
func (r *reader) entries(n ast.Node, path string) []entry {
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	}
	var list, merged []entry
	seen := map[string]*token.Position{}
	for _, v := range values {
		if v.Key.IsMergeKey() {
			merged = append(merged, r.merge(v.Value, path)...)
			continue
		}
		key, _ := scalarText(r.plain(v.Key, path))
		pos := v.Key.GetToken().Position
		if first := seen[key]; first != nil {
			r.fault(pos, join(path, key), "stands twice", fmt.Sprintf("keep one; the first is in line %d", first.Line))
			continue
		}
		seen[key] = pos
		list = append(list, entry{key, pos, v.Value})
	}
	for _, e := range merged {
		if seen[e.key] == nil {
			seen[e.key] = e.pos
			list = append(list, e)
		}
	}
	return list
}

func (r *reader) merge(n ast.Node, path string) []entry {
	r.nodes++
	n = r.plain(n, path)
	seq, ok := n.(*ast.SequenceNode)
	if !ok || r.nodes > maxNodes {
		return r.entries(n, path)
	}
	var list []entry
	for _, v := range seq.Values {
		list = append(list, r.entries(r.plain(v, path), path)...)
	}
	return list
}

// decode reads node into v, a settable value that holds the default.
func (r *reader) decode(n ast.Node, v reflect.Value, path string) {
	if n == nil {
		return
	}
	pos := start(n)
	if r.nodes++; r.nodes > maxNodes {
		if r.nodes == maxNodes+1 {
			r.fault(pos, path, "is too large", "use fewer aliases")
		}
		return
	}
	if n = r.plain(n, path); n == nil {
		return
	}
	r.at[path] = pos
	if _, null := n.(*ast.NullNode); null {
		return
	}
	if v.Kind() == reflect.Pointer && !custom(v) {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		v = v.Elem()
	}
	switch {
	case isText(v):
		r.scalar(n, pos, v, path)
	case custom(v):
		r.foreign(n, pos, v, path)
	case v.Kind() == reflect.Struct:
		r.structure(n, pos, v, path)
	case v.Kind() == reflect.Map:
		r.table(n, pos, v, path)
	case v.Kind() == reflect.Slice:
		r.list(n, pos, v, path)
	default:
		r.scalar(n, pos, v, path)
	}
}

// start is where a node begins. The parser's token of a block mapping is its first colon.
func start(n ast.Node) *token.Position {
	switch x := n.(type) {
	case *ast.MappingNode:
		if !x.IsFlowStyle && len(x.Values) > 0 {
			return start(x.Values[0])
		}
	case *ast.MappingValueNode:
		return x.Key.GetToken().Position
	}
	return n.GetToken().Position
}

func (r *reader) structure(n ast.Node, pos *token.Position, v reflect.Value, path string) {
	if !isMapping(n) {
		r.fault(pos, path, "is "+kindOf(n)+", but must be a mapping", "write its keys below it, each as key: value")
		return
	}
	fields := fieldsOf(v)
	for _, e := range r.entries(n, path) {
		p := join(path, e.key)
		f, ok := fields.byKey[e.key]
		if !ok {
			r.unknown(e, path, fields.keys)
			continue
		}
		r.keys[p] = e.pos
		r.decode(e.value, f, p)
	}
}

// unknown reports a key that ebb does not know, with the key that was probably meant.
func (r *reader) unknown(e entry, path string, known []string) {
	where := ""
	if path != "" {
		where = " of " + path
	}
	mend := "take it out; keys" + where + " are " + strings.Join(known, ", ")
	if near := nearest(e.key, known); near != "" {
		mend = "did you mean " + near + "?"
	} else if elsewhere := r.tree.guess(e.key); elsewhere != "" {
		mend = "did you mean " + elsewhere + "?"
	}
	r.fault(e.pos, join(path, e.key), "unknown key", mend)
}

func (r *reader) table(n ast.Node, pos *token.Position, v reflect.Value, path string) {
	if !isMapping(n) {
		r.fault(pos, path, "is "+kindOf(n)+", but must be a table", "write key: value lines below it")
		return
	}
	table := reflect.MakeMap(v.Type())
	for _, e := range r.entries(n, path) {
		p := join(path, e.key)
		r.keys[p] = e.pos
		value := reflect.New(v.Type().Elem()).Elem()
		r.decode(e.value, value, p)
		key := reflect.New(v.Type().Key()).Elem()
		if err := setText(key, e.key); err != nil {
			r.faultErr(e.pos, p, err)
			continue
		}
		table.SetMapIndex(key, value)
	}
	v.Set(table)
}

func (r *reader) list(n ast.Node, pos *token.Position, v reflect.Value, path string) {
	seq, ok := n.(*ast.SequenceNode)
	if text, scalar := scalarText(n); scalar && v.Type().Elem().Kind() == reflect.String {
		r.words(text, pos, v, path)
		return
	}
	if !ok {
		r.fault(pos, path, "is "+kindOf(n)+", but must be a list", "write [a, b] or one line each beginning with a dash")
		return
	}
	list := reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values))
	for i, item := range seq.Values {
		p := fmt.Sprintf("%s[%d]", path, i)
		applyDefaults(list.Index(i))
		r.decode(item, list.Index(i), p)
	}
	v.Set(list)
}

// words reads a list that is written as one text with commas, the form that lists have in the environment.
func (r *reader) words(text string, pos *token.Position, v reflect.Value, path string) {
	text, err := expand(text, r.env)
	if err != nil {
		r.faultErr(pos, path, err)
		return
	}
	list := reflect.MakeSlice(v.Type(), 0, 4)
	for word := range strings.SplitSeq(text, ",") {
		if word = strings.TrimSpace(word); word != "" {
			item := reflect.New(v.Type().Elem()).Elem()
			item.SetString(word)
			list = reflect.Append(list, item)
		}
	}
	v.Set(list)
}

// foreign reads a type that decodes itself, such as a field of a mapping that is a path or a constant.
func (r *reader) foreign(n ast.Node, pos *token.Position, v reflect.Value, path string) {
	r.expandAll(n, path)
	err := yaml.NodeToValue(n, v.Addr().Interface(), yaml.Strict())
	if err == nil {
		return
	}
	var y yaml.Error
	if !errors.As(err, &y) {
		r.faultErr(pos, path, err)
		return
	}
	if t := y.GetToken(); t != nil && t.Position != nil && t.Position.Line >= pos.Line {
		pos = t.Position
	}
	if want := outermost(err); want != "" {
		r.fault(pos, path, y.GetMessage(), want)
		return
	}
	r.faultErr(pos, path, errors.New(y.GetMessage()))
}

// outermost is what the type itself said of a fault of its YAML, without the decoder's part of the message.
func outermost(err error) string {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		if first := j.Unwrap()[0]; !errors.As(first, new(yaml.Error)) {
			return first.Error()
		}
	}
	if u := errors.Unwrap(err); u != nil {
		return outermost(u)
	}
	return ""
}

func (r *reader) expandAll(n ast.Node, path string) {
	ast.Walk(expander{r, path}, n)
}

type expander struct {
	r    *reader
	path string
}

func (x expander) Visit(n ast.Node) ast.Visitor {
	if s, ok := n.(*ast.StringNode); ok {
		v, err := expand(s.Value, x.r.env)
		if err != nil {
			x.r.faultErr(s.GetToken().Position, x.path, err)
		} else if v != s.Value {
			s.Value, s.Token.Value = v, v
		}
	}
	return x
}

func (r *reader) scalar(n ast.Node, pos *token.Position, v reflect.Value, path string) {
	text, ok := scalarText(n)
	if !ok {
		r.fault(pos, path, "is "+kindOf(n)+", but must be "+describe(v), "write one value, or leave the key out")
		return
	}
	text, err := expand(text, r.env)
	if err != nil {
		r.faultErr(pos, path, err)
		return
	}
	// Read aside, so that a bad value leaves the default in place and is not reported a second time by the checks.
	read := reflect.New(v.Type()).Elem()
	if err := setText(read, text); err != nil {
		r.faultErr(pos, path, err)
		return
	}
	v.Set(read)
}

// scalarText is the text of a scalar as it stands in the file (1.10 stays 1.10, yes stays yes).
func scalarText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode, *ast.NullNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// setText gives a scalar value its text.
func setText(v reflect.Value, text string) error {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		if text != "true" && text != "false" {
			return fmt.Errorf("%q is not a switch; write true or false", text)
		}
		v.SetBool(text == "true")
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		i, err := strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 10, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q is not a whole number; write digits only", text)
		}
		v.SetInt(i)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		i, err := strconv.ParseUint(strings.ReplaceAll(text, "_", ""), 10, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q is not a whole number from 0; write digits only", text)
		}
		v.SetUint(i)
	case reflect.Float32, reflect.Float64:
		x, err := strconv.ParseFloat(text, 64)
		if err != nil || x-x != 0 {
			return fmt.Errorf("%q is not a number; write it as %s", text, asNumber(text))
		}
		v.SetFloat(x)
	default:
		return fmt.Errorf("%s cannot be configured", v.Type())
	}
	return nil
}

// asNumber is how a text that is no number is written as one: a percentage as a share, anything else by example.
func asNumber(text string) string {
	if percent, ok := strings.CutSuffix(text, "%"); ok {
		if x, err := strconv.ParseFloat(strings.TrimSpace(percent), 64); err == nil {
			return strconv.FormatFloat(x/100, 'g', 6, 64)
		}
	}
	return "0.25"
}

func isMapping(n ast.Node) bool {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return true
	}
	return false
}

func kindOf(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	}
	return "a single value"
}

func describe(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a text"
	default:
		return "a single value"
	}
}

// isText is true for values with a text form of their own.
func isText(v reflect.Value) bool {
	_, ok := v.Addr().Interface().(encoding.TextUnmarshaler)
	return ok
}

// custom is true for values that read YAML themselves.
func custom(v reflect.Value) bool {
	switch v.Addr().Interface().(type) {
	case yaml.InterfaceUnmarshaler, yaml.BytesUnmarshaler, yaml.NodeUnmarshaler,
		yaml.InterfaceUnmarshalerContext, yaml.BytesUnmarshalerContext, yaml.NodeUnmarshalerContext:
		return true
	}
	return false
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// nearest is the known word that a mistyped one was probably meant to be, or empty.
func nearest(word string, known []string) string {
	best, limit := "", max(1, len(word)/3)+1
	for _, k := range known {
		if d := distance(strings.ToLower(word), k); d < limit {
			best, limit = k, d
		}
	}
	return best
}

// distance counts the letters to insert, remove, replace or swap with a neighbour (optimal string alignment).
func distance(a, b string) int {
	before, row := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next := make([]int, len(b)+1)
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}
