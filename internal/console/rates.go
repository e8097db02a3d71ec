package console

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// rates keeps the last minutes of what each route and lane sent, and how much waited. It is this replica's.
const (
	sampleEvery = 2 * time.Second
	samples     = 150 // five minutes
	// shownLines is how many lines a plot has, and keptSeries how many series are kept: what is more is one line.
	shownLines = 7
	keptSeries = 500
)

// seriesKey is what is told apart. The empty one is of all that are too many.
type seriesKey struct {
	app   string
	route push.Route
	lane  uint8
}

var laneNames = [2]string{"urgent", "bulk"}

// point is what one interval had: results a second, and recipients that waited at its end.
type point struct{ accepted, refused, later, waiting float32 }

// series has the points of a key, by the number of the sample modulo samples.
type series struct {
	points [samples]point
	last   int // the newest sample that has something
}

type rates struct {
	mu     sync.Mutex // guards all
	n      int        // samples taken
	times  [samples]int64
	at     time.Time
	sums   map[seriesKey]Sums // at the last sample
	series map[seriesKey]*series
}

func newRates() *rates {
	return &rates{sums: map[seriesKey]Sums{}, series: map[seriesKey]*series{}}
}

// add takes a sample.
func (r *rates) add(now time.Time, routes []Route) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := r.n == 0
	seconds := float32(now.Sub(r.at).Seconds())
	i := r.n % samples
	r.n, r.at, r.times[i] = r.n+1, now, now.Unix()
	for key, s := range r.series {
		if s.points[i] = (point{}); r.n-s.last > samples {
			delete(r.series, key)
		}
	}
	sums := make(map[seriesKey]Sums, len(routes))
	for k := range routes {
		route := &routes[k]
		for lane := range route.Sums {
			key := seriesKey{route.App, route.Route, uint8(lane)}
			sum, before := route.Sums[lane], r.sums[key]
			if sum != (Sums{}) {
				sums[key] = sum
			}
			if sum.Accepted < before.Accepted { // another route has taken its place
				before = Sums{}
			}
			p := point{waiting: float32(route.Ready[lane])}
			if !first && seconds > 0 {
				p.accepted = float32(sum.Accepted-before.Accepted) / seconds
				p.refused = float32(sum.Refused-min(sum.Refused, before.Refused)) / seconds
				p.later = float32(sum.Later-min(sum.Later, before.Later)) / seconds
			}
			if p != (point{}) {
				r.of(key).plus(i, r.n, p)
			}
		}
	}
	r.sums = sums
}

func (r *rates) of(key seriesKey) *series {
	if r.series[key] == nil && len(r.series) >= keptSeries {
		key = seriesKey{}
	}
	if r.series[key] == nil {
		r.series[key] = &series{}
	}
	return r.series[key]
}

func (p *point) add(q point) {
	p.accepted, p.refused, p.later, p.waiting = p.accepted+q.accepted, p.refused+q.refused, p.later+q.later,
		p.waiting+q.waiting
}

func (s *series) plus(i, n int, p point) {
	s.points[i].add(p)
	s.last = n
}

// line is one of a plot.
type line struct {
	Name   string    `json:"name"`
	Values []float32 `json:"values"`
}

// live is what the plots are drawn of.
type live struct {
	Times   []int64 `json:"times"` // Unix seconds, the oldest first
	Sent    []line  `json:"sent"`
	Refused []line  `json:"refused"`
	Waiting []line  `json:"waiting"`
}

// by says what the lines are told apart by.
func groupOf(key seriesKey, by string) string {
	switch {
	case key == seriesKey{}:
		return "others"
	case by == "app":
		return key.app
	case by == "lane":
		return laneNames[key.lane]
	}
	return string(key.route)
}

// read sums up the series of the app (empty: of all) by app, route or lane.
func (r *rates) read(app, by string) live {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(r.n, samples)
	l := live{Times: make([]int64, n)}
	for j := range n {
		l.Times[j] = r.times[(r.n-n+j)%samples]
	}
	groups := map[string][]point{}
	for key, s := range r.series {
		if app != "" && key.app != app {
			continue
		}
		name := groupOf(key, by)
		if groups[name] == nil {
			groups[name] = make([]point, n)
		}
		for j := range n {
			groups[name][j].add(s.points[(r.n-n+j)%samples])
		}
	}
	l.Sent = lines(groups, n, func(p point) float32 { return p.accepted })
	l.Waiting = lines(groups, n, func(p point) float32 { return p.waiting })
	refused, later := make([]float32, n), make([]float32, n)
	for _, points := range groups {
		for j, p := range points {
			refused[j], later[j] = refused[j]+p.refused, later[j]+p.later
		}
	}
	l.Refused = []line{{"refused for good", refused}, {"to be sent again", later}}
	return l
}

// lines are the largest groups by name, the rest as one.
func lines(groups map[string][]point, n int, of func(point) float32) []line {
	sums := map[string]float32{}
	names := make([]string, 0, len(groups))
	for name, points := range groups {
		names = append(names, name)
		for _, p := range points {
			sums[name] += of(p)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(sums[b], sums[a]), cmp.Compare(a, b)) })
	all := []line{}
	for i, name := range names {
		if i >= shownLines {
			name = "others"
		}
		at := slices.IndexFunc(all, func(l line) bool { return l.Name == name })
		if at < 0 {
			all = append(all, line{name, make([]float32, n)})
			at = len(all) - 1
		}
		for j, p := range groups[names[i]] {
			all[at].Values[j] += of(p)
		}
	}
	slices.SortFunc(all, func(a, b line) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// now are the rates of the last sample.
func (r *rates) now(app string) (p point) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n == 0 {
		return p
	}
	for key, s := range r.series {
		if app == "" || key.app == app {
			p.add(s.points[(r.n-1)%samples])
		}
	}
	return p
}

func (k *Console) serveLive(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	b, err := json.Marshal(k.rates.read(query.Get("app"), query.Get("by")))
	if err != nil {
		http.Error(w, "The plots cannot be drawn.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b) // the client may be gone
}
