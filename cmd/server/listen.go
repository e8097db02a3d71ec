package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/lhspn/lhspn/internal/api"
	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/listener"
)

// opsConnections is how many connections the operators' listener has at the most: the files that the public one leaves
// are for the database and the push services, too.
const opsConnections = 32

// longestProfile is how long an answer of the operators' listener may take: a profile asks for a time of its own.
const longestProfile = 10 * time.Minute

// listenPublic opens the public listener, with its bounds and its certificate.
func (s *service) listenPublic(ctx context.Context) (err error) {
	c := &s.cfg.API
	if s.proxies, err = listener.ParseProxies(c.TrustedProxies); err != nil {
		return fmt.Errorf("api.trusted_proxies: %w", err)
	}
	if s.cfg.TLSCertificateFile != "" {
		s.certificate, err = listener.LoadCertificate(s.cfg.TLSCertificateFile, s.cfg.TLSKeyFile, s.log)
		if err != nil {
			return err
		}
		s.metrics.MustRegister(certificateExpiry(s.certificate))
	}
	l, err := listen(ctx, "listen", s.cfg.Listen)
	if err != nil {
		return err
	}
	closed := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "lhspn_http_connections_closed_total",
		Help: "Connections that were closed because of api.max_connections and max_connections_per_address, or because " +
			"their requests over HTTP/2 were taken back at once, or their answers not at all.",
	})
	s.metrics.MustRegister(closed)
	line := rate.Sometimes{Interval: time.Minute}
	s.public = listener.New(l, listener.Config{
		Bounds: s.bounds(c), Trusted: s.proxies,
		Closed: func() {
			closed.Inc()
			line.Do(func() {
				s.log.Warn("connections are closed: there are more than api.max_connections, or of one "+
					"address than api.max_connections_per_address, or clients take requests back, or their answers not",
					"metric", "lhspn_http_connections_closed_total")
			})
		},
		Refusal: s.refusal,
	})
	return nil
}

// refusal is the answer of both listeners to what is no request.
func (s *service) refusal(status int, why string) []byte { return s.api.Refusal(status, why) }

func certificateExpiry(c *listener.Certificate) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "lhspn_http_certificate_expiry_timestamp_seconds",
		Help: "When the certificate of listen expires; absent without one.",
	}, func() float64 { return float64(c.Expiry().Unix()) })
}

// bounds are those of the connections, as far as the process may open so many files.
func (s *service) bounds(c *config.API) listener.Bounds {
	most := c.MaxConnections
	if files := openFiles(); files > 0 && most > files/2 {
		s.log.Warn("the process may open few files; fewer connections are taken than api.max_connections",
			"files", files, "max_connections", files/2)
		most = files / 2
	}
	return listener.Bounds{Max: most, PerAddress: min(c.MaxConnectionsPerAddress, most)}
}

// setLimits has the limits of a configuration that has been read again hold.
func (s *service) setLimits(c *config.API) {
	now := &s.cfg.API
	if now.MaxConnections != c.MaxConnections || now.MaxConnectionsPerAddress != c.MaxConnectionsPerAddress {
		s.public.SetBounds(s.bounds(c))
	}
	now.MaxConnections, now.MaxConnectionsPerAddress = c.MaxConnections, c.MaxConnectionsPerAddress
	s.api.SetLimits(c.RegisterRate, c.MaxInFlight)
}

// openFiles is how many files the process may open; 0 where that is not known.
func openFiles() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > 1<<30 {
		return 0
	}
	return int(limit.Cur)
}

// warnOfOpenness says, once, that whoever is on the way can read keys and device tokens, and that whoever gets to the
// operators' listener needs no key.
func (s *service) warnOfOpenness() {
	if !isPrivate(s.private.Addr()) {
		s.log.Warn("metrics and profiles are served without a key, and not on loopback or a private address: let only "+
			"operators and Prometheus get to ops_listen", "ops_listen", s.private.Addr().String())
	}
	if s.certificate == nil && len(s.proxies) == 0 && !listener.IsLoopback(s.public) {
		s.log.Warn("the API is served over plain HTTP, and not on loopback: set tls_certificate_file and tls_key_file, or "+
			"api.trusted_proxies where a proxy has TLS", "listen", s.public.Addr().String())
	}
}

// crowd is how many goroutines take memory that is worth giving back; each connection and each request over HTTP/2 has
// one.
const crowd = 1000

// giveBack gives back the memory that a crowd of connections or requests has taken, when it is over. Left to itself the
// runtime keeps it for many minutes: what made it is garbage that nothing collects while little else is allocated.
func giveBack(ctx context.Context) error {
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for seen := (subsiding{}); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			if seen.over(runtime.NumGoroutine()) {
				runtime.GC() // the first one keeps what is in pools
				debug.FreeOSMemory()
			}
		}
	}
}

// subsiding tells when a crowd is gone.
type subsiding struct{ most int }

// over reports, once, that there were as many as crowd or more, of which no more than a quarter is left.
func (s *subsiding) over(now int) bool {
	s.most = max(s.most, now)
	if s.most < crowd || now > s.most/4 {
		return false
	}
	s.most = now
	return true
}

func (s *service) followCertificate(ctx context.Context) error {
	if s.certificate == nil {
		<-ctx.Done()
		return nil
	}
	return s.certificate.Run(ctx)
}

// serveHTTP serves until ctx ends; requests in flight then have the grace time to finish.
func (s *service) serveHTTP(ctx context.Context, l net.Listener, h http.Handler, grace time.Duration) error {
	server := &http.Server{
		Handler: listener.Track(h), ConnContext: listener.ConnContext, MaxHeaderBytes: api.MaxHeaderBytes,
		ReadHeaderTimeout: s.cfg.API.ReadHeaderTimeout, IdleTimeout: s.cfg.API.IdleTimeout,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	public := l == s.public
	if !public {
		server.WriteTimeout = longestProfile
	} else {
		server.ReadTimeout, server.WriteTimeout = s.cfg.API.ReadTimeout, s.cfg.API.WriteTimeout
		if s.certificate != nil {
			l = listener.NewTLS(s.public, s.certificate.TLS(), s.cfg.API.ReadHeaderTimeout, s.log)
		}
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	if public {
		s.draining.Store(true)
		s.notify("STOPPING=1")
		s.delay()
		s.api.EndStreams()
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if err := server.Shutdown(stopping); err != nil {
		s.log.Warn("requests were cut off", "error", err)
		_ = server.Close() // what is cut off has not been answered, and its sender repeats it
	}
	return nil
}
