package population

import (
	"math"
	"slices"
)

// trees are boosted regression trees that correct given log-odds: Newton boosting (Friedman 2001) on histograms.
type trees struct {
	edges [numSplit][]float32 // a value is in bin i if i edges are less
	each  []tree
}

// tree has treeDepth levels. Node i of a level has the children 2i and 2i+1 of the next; nodes are counted through the levels.
type tree struct {
	feature [1<<treeDepth - 1]uint8
	least   [1<<treeDepth - 1]uint8 // go to the second child if the bin is larger
	leaves  [1 << treeDepth]float32
	// above is the same as least: go to the second child if the value is larger.
	above [1<<treeDepth - 1]float32
}

const (
	treeRounds  = 80
	treeDepth   = 3
	treeRate    = 0.08
	treeBins    = 48
	treeLambda  = 5.0
	treeLeast   = 8.0 // hessian of a child
	treeShare   = 0.7 // of the examples, by round
	treeMinGain = 1e-9
)

// fitTrees learns from examples.
func fitTrees(all []example) *trees {
	m := &trees{}
	m.cut(all)
	binned := make([][numSplit]uint8, len(all))
	f := make([]float64, len(all))
	for i := range all {
		binned[i], f[i] = m.bin(&all[i].split), all[i].prior
	}
	g := &grower{binned: binned, gradient: make([]float64, len(all)), hessian: make([]float64, len(all)), node: make([]uint8, len(all))}
	for round := range treeRounds {
		g.rows = g.rows[:0]
		for i := range all {
			e := &all[i]
			p := probability(f[i])
			g.gradient[i], g.hessian[i] = (p-e.stopped)*e.weight, p*(1-p)*e.weight
			if share(mix(e.key+uint64(round)*0x9e3779b97f4a7c15)) < treeShare {
				g.rows = append(g.rows, int32(i))
			}
		}
		t := g.grow()
		for i := range f {
			f[i] += float64(t.leaves[t.leaf(&binned[i])])
		}
		m.prepare(&t)
		m.each = append(m.each, t)
	}
	return m
}

// cut sets the edges of the bins at quantiles of the examples.
func (m *trees) cut(all []example) {
	values := make([]float32, len(all))
	for j := range m.edges {
		for i := range all {
			values[i] = all[i].split[j]
		}
		slices.Sort(values)
		for q := 1; q < treeBins-1; q++ {
			at := float64(q) / (treeBins - 1) * float64(len(values)-1)
			i := int(at)
			v := values[i]
			if i+1 < len(values) {
				v += (values[i+1] - v) * float32(at-float64(i))
			}
			if n := len(m.edges[j]); n == 0 || v > m.edges[j][n-1] {
				m.edges[j] = append(m.edges[j], v)
			}
		}
	}
}

func (m *trees) bin(f *[numSplit]float32) (b [numSplit]uint8) {
	for j, v := range f {
		e := m.edges[j]
		low, high := 0, len(e)
		for low < high {
			if mid := (low + high) / 2; e[mid] < v {
				low = mid + 1
			} else {
				high = mid
			}
		}
		b[j] = uint8(low)
	}
	return b
}

// correct is what is to be added to the prior.
func (m *trees) correct(f *[numSplit]float32) float64 {
	sum := 0.0
	for i := range m.each {
		t, node := &m.each[i], 0
		for range treeDepth {
			next := 2*node + 1
			if f[t.feature[node]] > t.above[node] {
				next++
			}
			node = next
		}
		sum += float64(t.leaves[node-len(t.feature)])
	}
	return sum
}

// prepare sets what correct needs of a tree. It is false if the tree has a feature or an edge that there is not.
func (m *trees) prepare(t *tree) bool {
	for i, j := range t.feature {
		switch k := t.least[i]; {
		case k == math.MaxUint8:
			t.above[i] = float32(math.Inf(1))
		case int(j) >= len(m.edges) || int(k) >= len(m.edges[j]):
			return false
		default:
			t.above[i] = m.edges[j][k]
		}
	}
	return true
}

func (t *tree) leaf(b *[numSplit]uint8) int {
	node := 0
	for range treeDepth {
		next := 2*node + 1
		if b[t.feature[node]] > t.least[node] {
			next++
		}
		node = next
	}
	return node - (1<<treeDepth - 1)
}

// grower grows one tree at a time.
type grower struct {
	binned            [][numSplit]uint8
	gradient, hessian []float64
	node              []uint8 // by example, within the level
	rows              []int32 // examples of the round
}

type bins [numSplit][treeBins][2]float64 // gradient and hessian

func (g *grower) grow() tree {
	var t tree
	for _, i := range g.rows {
		g.node[i] = 0
	}
	for level := range treeDepth {
		nodes := 1 << level
		sums := make([]bins, nodes)
		for _, i := range g.rows {
			to, b := &sums[g.node[i]], &g.binned[i]
			a, h := g.gradient[i], g.hessian[i]
			for j, k := range b {
				to[j][k][0] += a
				to[j][k][1] += h
			}
		}
		first := nodes - 1
		for n := range nodes {
			t.feature[first+n], t.least[first+n] = sums[n].best()
		}
		for _, i := range g.rows {
			n := int(g.node[i])
			side := uint8(0)
			if g.binned[i][t.feature[first+n]] > t.least[first+n] {
				side = 1
			}
			g.node[i] = uint8(2*n) + side
		}
	}
	var sum, curve [1 << treeDepth]float64
	for _, i := range g.rows {
		sum[g.node[i]] += g.gradient[i]
		curve[g.node[i]] += g.hessian[i]
	}
	for i := range t.leaves {
		t.leaves[i] = float32(-treeRate * sum[i] / (curve[i] + treeLambda))
	}
	return t
}

// best is the split with the largest gain; of a node that is not worth splitting everything goes to the first child.
func (s *bins) best() (feature, least uint8) {
	var all [2]float64
	for _, b := range s[0] {
		all[0] += b[0]
		all[1] += b[1]
	}
	whole := all[0] * all[0] / (all[1] + treeLambda)
	most := treeMinGain
	feature, least = 0, math.MaxUint8
	for j := range s {
		var left [2]float64
		for k := range treeBins {
			left[0] += s[j][k][0]
			left[1] += s[j][k][1]
			right := [2]float64{all[0] - left[0], all[1] - left[1]}
			if left[1] < treeLeast || right[1] < treeLeast {
				continue
			}
			gain := left[0]*left[0]/(left[1]+treeLambda) + right[0]*right[0]/(right[1]+treeLambda) - whole
			if gain > most {
				most, feature, least = gain, uint8(j), uint8(k)
			}
		}
	}
	return feature, least
}

// mix is the finalizer of splitmix64: it spreads a number evenly over all others.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// share is a number as a fraction of all numbers, below 1.
func share(x uint64) float64 { return float64(x>>11) / (1 << 53) }
