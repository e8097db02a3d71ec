package measure

import (
	"math/bits"
	"time"
)

// Histogram counts latencies in buckets whose width is a 32nd of their size, so that quantiles are right to 3 %. The
// zero value is ready; it is for one goroutine, and histograms are added together afterwards.
type Histogram struct {
	buckets [64 * subBuckets]uint64
	count   uint64
	longest time.Duration
}

const (
	subBits    = 5
	subBuckets = 1 << subBits
)

// Add counts one latency.
func (h *Histogram) Add(d time.Duration) {
	d = max(d, 0)
	h.buckets[bucketOf(uint64(d))]++
	h.count++
	h.longest = max(h.longest, d)
}

// Merge adds the other's counts.
func (h *Histogram) Merge(other *Histogram) {
	for i, n := range other.buckets {
		h.buckets[i] += n
	}
	h.count += other.count
	h.longest = max(h.longest, other.longest)
}

// Count is the number of latencies.
func (h *Histogram) Count() uint64 { return h.count }

// Max is the longest one, exactly.
func (h *Histogram) Max() time.Duration { return h.longest }

// Quantile is the latency that the share q (0 to 1) of all do not exceed.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.count == 0 {
		return 0
	}
	rank := min(uint64(q*float64(h.count)), h.count-1)
	var seen uint64
	for i, n := range h.buckets {
		seen += n
		if seen > rank {
			return min(time.Duration(upperEnd(i)), h.longest)
		}
	}
	return h.longest
}

// bucketOf maps a value to its bucket: exact below 2^subBits, then subBuckets buckets for each power of two.
func bucketOf(v uint64) int {
	if v < subBuckets {
		return int(v)
	}
	shift := bits.Len64(v) - 1 - subBits
	return (shift+1)<<subBits + int(v>>shift)&(subBuckets-1)
}

// upperEnd is the largest value of a bucket.
func upperEnd(bucket int) uint64 {
	if bucket < subBuckets {
		return uint64(bucket)
	}
	shift := bucket>>subBits - 1
	return (uint64(bucket&(subBuckets-1))+subBuckets+1)<<shift - 1
}
