package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/tracing"
)

// flushTimeout is how long, at the end, the collector may take for the last spans.
const flushTimeout = 3 * time.Second

// openTracing starts the export of spans; the Tracer is nil where nothing is traced.
func (s *service) openTracing(ctx context.Context) (push.Tracer, error) {
	c := &s.cfg.Tracing
	if c.Endpoint == "" {
		return nil, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	t, err := tracing.New(ctx, tracing.Config{
		Endpoint: c.Endpoint, Ratio: c.SamplingRatio, Version: version, Instance: fmt.Sprintf("%s-%d", host, os.Getpid()),
	}, s.log, s.metrics)
	if err != nil {
		return nil, fmt.Errorf("tracing.endpoint: %w", err)
	}
	s.tracer = t
	return t, nil
}

// flushSpans has the last spans exported.
func (s *service) flushSpans() {
	if s.tracer == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	if err := s.tracer.Close(ctx); err != nil {
		s.log.Warn("the last spans are lost", "error", err)
	}
}
