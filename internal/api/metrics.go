package api

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts requests by route pattern, method and status, all of them from closed sets.
type metrics struct {
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec

	refusedKeys *prometheus.CounterVec
	unmatched   *routeMetrics
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lhspn_http_requests_total",
			Help: "Requests to the public listener, by route, method and status; 499: the client gave it up at once.",
		}, []string{"route", "method", "code"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "lhspn_http_request_duration_seconds",
			Help:    "Time from a request's header to the end of its answer, by route and method.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .015, .025, .05, .1, .25, .5, 1, 2.5, 10},
		}, []string{"route", "method"}),
	}
	m.refusedKeys = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lhspn_http_refused_keys_total",
		Help: "Requests refused for their key: it is missing, unknown, expired, or of another scope.",
	}, []string{"why"})
	r.MustRegister(m.requests, m.durations, m.refusedKeys)
	for _, why := range []string{refusedMissing, refusedUnknown, refusedExpired, refusedScope} {
		m.refusedKeys.WithLabelValues(why)
	}
	m.unmatched = m.route("other", "other", http.StatusNotFound, http.StatusMethodNotAllowed)
	return m
}

// routeMetrics are one route's, looked up once, at the start.
type routeMetrics struct {
	pattern  string
	duration prometheus.Observer
	// byCode holds the statuses that the route documents; other takes any that it does not.
	byCode map[int]prometheus.Counter
	other  prometheus.Counter
}

func (m *metrics) route(method, pattern string, codes ...int) *routeMetrics {
	route := &routeMetrics{
		pattern:  pattern,
		duration: m.durations.WithLabelValues(pattern, method),
		byCode:   make(map[int]prometheus.Counter, len(codes)),
		other:    m.requests.WithLabelValues(pattern, method, "other"),
	}
	for _, code := range codes {
		route.byCode[code] = m.requests.WithLabelValues(pattern, method, strconv.Itoa(code))
	}
	return route
}

func (r *routeMetrics) observe(code int, took time.Duration) {
	r.duration.Observe(took.Seconds())
	if counter := r.byCode[code]; counter != nil {
		counter.Inc()
		return
	}
	r.other.Inc()
}
