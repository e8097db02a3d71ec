package measure

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestQuantiles(t *testing.T) {
	t.Parallel()
	var h, other Histogram
	r := rand.New(rand.NewPCG(1, 2))
	all := make([]time.Duration, 0, 20_000)
	for i := range 20_000 {
		d := time.Duration(r.ExpFloat64() * float64(3*time.Millisecond))
		all = append(all, d)
		if i%2 == 0 {
			h.Add(d)
		} else {
			other.Add(d)
		}
	}
	h.Merge(&other)
	slices.Sort(all)
	for _, q := range []float64{0, 0.01, 0.5, 0.99, 0.999, 1} {
		want := all[min(int(q*float64(len(all))), len(all)-1)]
		got := h.Quantile(q)
		if got < want || float64(got) > float64(want)*1.04+1 {
			t.Errorf("quantile %v: %v, exact %v", q, got, want)
		}
	}
	if h.Max() != all[len(all)-1] || h.Count() != uint64(len(all)) {
		t.Errorf("max %v, count %d", h.Max(), h.Count())
	}
}

func TestBucketsAreContiguous(t *testing.T) {
	t.Parallel()
	last := -1
	for v := range uint64(1 << 14) {
		b := bucketOf(v)
		if b != last && b != last+1 {
			t.Fatalf("value %d in bucket %d after bucket %d", v, b, last)
		}
		if upperEnd(b) < v || bucketOf(upperEnd(b)) != b || bucketOf(upperEnd(b)+1) != b+1 {
			t.Fatalf("bucket %d of value %d ends at %d", b, v, upperEnd(b))
		}
		last = b
	}
}

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 3, 2}, 2}} {
		if got := Median(c.in); got != c.want {
			t.Errorf("Median(%v) = %v", c.in, got)
		}
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	table := Table{Columns: []string{"what", "n"}}
	table.Row("µs", 1234567)
	table.Row("x", -1000)
	var out strings.Builder
	table.Write(&out)
	want := "| what | n         |\n| ---- | --------- |\n| µs   | 1,234,567 |\n| x    | -1,000    |\n\n"
	if out.String() != want {
		t.Errorf("got:\n%swant:\n%s", out.String(), want)
	}
}
