package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/lhspn/lhspn/bench/internal/measure"
	"github.com/lhspn/lhspn/bench/internal/rig"
	"github.com/lhspn/lhspn/internal/simulator"
	"github.com/lhspn/lhspn/internal/simulator/fcmsim"
	"github.com/lhspn/lhspn/internal/simulator/webpushsim"
)

// mixture is a kind of broadcast of one message to an app on three platforms.
type mixture struct {
	label     string
	platforms []string
	// silent: FCM and the browsers' push service take every request and never answer.
	silent bool
}

var allPlatforms = []string{"apns", "fcm", "webpush"}

var mixtures = []mixture{
	{label: "Apple alone", platforms: allPlatforms[:1]},
	{label: "Apple and FCM", platforms: allPlatforms[:2]},
	{label: "all three", platforms: allPlatforms},
	{label: "all three; FCM and the browsers' service never answer", platforms: allPlatforms, silent: true},
}

// parts is one such broadcast: when each platform's devices all had it, since the POST was begun; 0 where they did not
// get it.
type parts struct {
	apple, google, browsers time.Duration
	// pending is how many devices were so a second after the notification was cancelled; only where it was.
	pending int64
	peak    int64
}

// mixed measures one message to devices on three platforms, with each kind in turns.
func mixed(ctx context.Context, o options) (err error) {
	dir, discard, err := rig.TempDir()
	if err != nil {
		return err
	}
	defer discard()
	cfg := simulator.Config{Record: simulator.RecordCounts}
	cfg.FCM.Address, cfg.WebPush.Address = "127.0.0.1:0", "127.0.0.1:0"
	cfg.WebPush.KeepEncrypted = true // as a push service does: only the browser decrypts
	sim, credentials, stop, err := rig.RunSimulator(ctx, dir, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	config := rig.ServerConfig{
		Bin: o.bin, Dir: dir, Transport: "http2", Gateway: sim.ProviderAddr(), Credentials: credentials,
	}
	if err := config.AddPlatforms(sim); err != nil {
		return err
	}
	var remove func()
	if config.Database, remove, err = rig.NewDatabase(ctx, o.engine, dir); err != nil {
		return err
	}
	defer remove()
	server, err := rig.StartServer(ctx, config)
	if err != nil {
		return err
	}
	defer server.Stop(20 * time.Second)
	devices, err := server.Devices(ctx, sim, o.mixed)
	if err != nil {
		return err
	}
	line := func(dst []byte, i int) []byte { return append(dst, devices[i].Line...) }
	if err := server.ImportLines(ctx, len(devices), line); err != nil {
		return err
	}
	shares := map[string]uint64{}
	for _, platform := range allPlatforms {
		shares[platform] = uint64(rig.Share(devices, platform))
	}

	runs := make([][]parts, len(mixtures))
	for range o.runs {
		for i, kind := range mixtures {
			one, err := kind.run(ctx, server, sim, shares)
			if err != nil {
				return fmt.Errorf("%s: %w", kind.label, err)
			}
			runs[i] = append(runs[i], one)
		}
	}
	table := measure.Table{Columns: []string{"", "Apple's part", "FCM's", "the browsers'", "RSS peak",
		"pending a second after its cancellation"}}
	for i, kind := range mixtures {
		median := func(f func(parts) time.Duration) any {
			if d := measure.MedianOf(runs[i], func(p parts) float64 { return f(p).Seconds() }); d != 0 {
				return seconds(d)
			}
			return ""
		}
		pending := any("")
		if kind.silent {
			pending = int64(measure.MedianOf(runs[i], func(p parts) float64 { return float64(p.pending) }))
		}
		table.Row(kind.label, median(func(p parts) time.Duration { return p.apple }),
			median(func(p parts) time.Duration { return p.google }), median(func(p parts) time.Duration { return p.browsers }),
			measure.MiB(int64(measure.MedianOf(runs[i], func(p parts) float64 { return float64(p.peak) }))),
			pending)
	}
	fmt.Printf("### One message to %s devices (%s of Apple, %s of FCM, %s browsers): %s; median of %d\n\n",
		measure.Cell(len(devices)), measure.Cell(int(shares["apns"])), measure.Cell(int(shares["fcm"])),
		measure.Cell(int(shares["webpush"])), o.engine, o.runs)
	table.Write(os.Stdout)
	return nil
}

// run sends to everyone once.
func (m mixture) run(ctx context.Context, server *rig.Server, sim *simulator.Simulator,
	shares map[string]uint64) (p parts, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 3*time.Minute, errors.New("not done after 3 min"))
	defer cancel()
	sim.Reset()
	sim.FCM().Reset()
	sim.WebPush().Reset()
	if m.silent {
		sim.FCM().SetFaults(fcmsim.Faults{NeverAnswerEvery: 1})
		sim.WebPush().SetFaults(webpushsim.Faults{Everything: webpushsim.OriginSilent})
	}
	if err := measure.ResetPeak(server.PID()); err != nil {
		return p, err
	}
	platforms, err := json.Marshal(m.platforms)
	if err != nil {
		return p, fmt.Errorf("write the platforms: %w", err)
	}
	begin := time.Now()
	n, err := server.Post(ctx, fmt.Appendf(nil,
		`{"to":{"all":true},"message":{"title":"Hello","body":%q},"platforms":%s}`, rig.Alert, platforms), "")
	if err != nil {
		return p, err
	}
	apple := false
	google := m.silent || !slices.Contains(m.platforms, "fcm")
	browsers := m.silent || !slices.Contains(m.platforms, "webpush")
	err = rig.Poll(ctx, 2*time.Millisecond, "wait until everyone has received it", func() (bool, error) {
		note(&apple, &p.apple, begin, sim.Totals().TokensAccepted, shares["apns"])
		note(&google, &p.google, begin, sim.FCM().Totals().TokensAccepted, shares["fcm"])
		note(&browsers, &p.browsers, begin, sim.WebPush().Totals().TokensAccepted, shares["webpush"])
		return apple && google && browsers, nil
	})
	p.peak = measure.Peak(server.PID())
	sim.FCM().SetFaults(fcmsim.Faults{})
	sim.WebPush().SetFaults(webpushsim.Faults{})
	if err != nil {
		return p, err
	}
	if m.silent {
		if err := server.Call(ctx, "POST", "/v1/notifications/"+n.ID+"/cancel", nil, nil, nil); err != nil {
			return p, err
		}
		select {
		case <-ctx.Done():
			return p, ctx.Err()
		case <-time.After(time.Second):
		}
		state, err := server.Notification(ctx, n.ID)
		if err != nil {
			return p, err
		}
		p.pending = state.Counts.Pending
	}
	return p, rig.Poll(ctx, 20*time.Millisecond, "wait for its end", func() (bool, error) {
		state, err := server.Notification(ctx, n.ID)
		return (state.State == "done" || state.State == "cancelled") && state.Counts.Pending == 0, err
	})
}

// note takes the time when all of a platform's devices have it, once.
func note(all *bool, at *time.Duration, begin time.Time, accepted, want uint64) {
	if !*all && accepted >= want {
		*all, *at = true, time.Since(begin)
	}
}
