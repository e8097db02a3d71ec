package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/lhspn/lhspn/bench/internal/rig"
	"github.com/lhspn/lhspn/internal/simulator/fcmsim"
	"github.com/lhspn/lhspn/internal/simulator/record"
	"github.com/lhspn/lhspn/internal/simulator/webpushsim"
)

// platforms is the play for an app with iPhones (six of ten devices), Android phones (three) and browsers (one): in
// each round one message to all of them, with badge_increment, while the service is killed. In every second round FCM
// or the push service of the browsers answers nothing but "later" for a while. Then every device must have got it, and
// the counts by platform and the badges must be exact.
func platforms(ctx context.Context, t *theatre) error {
	if err := t.config.AddPlatforms(t.sim); err != nil {
		return err
	}
	server, err := rig.StartServer(ctx, t.config)
	if err != nil {
		return err
	}
	defer func() { server.Stop(20 * time.Second) }()
	devices, err := server.Devices(ctx, t.sim, t.tokens)
	if err != nil {
		return err
	}
	line := func(dst []byte, i int) []byte { return append(dst, devices[i].Line...) }
	if err := server.ImportLines(ctx, len(devices), line); err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(t.seed, 5))
	var durations []float64
	var duplicates []int
	for round := 1; round <= t.rounds; round++ {
		begin := time.Now()
		d, err := t.message(ctx, server, devices, random, round)
		if err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		if bound := t.kills * 3 * t.duplicateBound(); d > bound { // each route has as many in flight
			return fmt.Errorf("round %d: %d duplicates after %d kills, of which there may be %d", round, d, t.kills, bound)
		}
		durations = append(durations, time.Since(begin).Seconds())
		duplicates = append(duplicates, d)
	}
	summary(fmt.Sprintf("kill -9 in %d rounds of one message to three platforms: %s, %s", t.rounds, t.engine, t.transport),
		durations, duplicates, t.rounds*t.kills, t.rounds*t.tokens)
	return nil
}

// message is one round.
func (t *theatre) message(ctx context.Context, server *rig.Server, devices []rig.Device, random *rand.Rand,
	round int) (duplicates int, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 4*time.Minute, errors.New("not done after 4 min"))
	defer cancel()
	t.sim.Reset()
	switch round % 4 {
	case 2:
		t.sim.FCM().SetFaults(fcmsim.Faults{UnavailablePercent: 100, RetryAfter: time.Second})
	case 0:
		t.sim.WebPush().SetFaults(webpushsim.Faults{UnavailablePercent: 100, RetryAfter: time.Second})
	}
	fleet := []*rig.Server{server}
	body := fmt.Appendf(nil, `{"to":{"all":true},"message":{"title":"Hello","body":%q},"badge_increment":1}`, rig.Alert)
	var n rig.Notification
	if err := t.call(ctx, fleet, func(ctx context.Context, api rig.API) (err error) {
		n, err = api.Post(ctx, body, fmt.Sprintf("message %d", round))
		return err
	}); err != nil {
		return 0, err
	}
	posted := time.Now()
	apns := rig.Share(devices, "apns")
	for range t.kills {
		at := random.IntN(apns)
		if err := rig.Poll(ctx, time.Millisecond, "wait for the moment to kill", func() (bool, error) {
			return t.sim.Totals().TokensAccepted >= uint64(at), nil
		}); err != nil {
			return 0, err
		}
		server.Kill()
		if err := server.Restart(ctx); err != nil {
			return 0, fmt.Errorf("restart: %w", err)
		}
	}
	if err := rig.Poll(ctx, 20*time.Millisecond, "wait for Apple's part", func() (bool, error) {
		return t.sim.Totals().TokensAccepted >= uint64(apns), nil
	}); err != nil {
		return 0, err
	}
	apple := time.Since(posted)
	if round%4 == 3 || round%4 == 1 { // nothing held FCM up
		fcm := rig.Share(devices, "fcm")
		if err := rig.Poll(ctx, 20*time.Millisecond, "wait for Google's part", func() (bool, error) {
			return t.sim.FCM().Totals().TokensAccepted >= uint64(fcm), nil
		}); err != nil {
			return 0, err
		}
	}
	google := time.Since(posted)
	t.sim.FCM().SetFaults(fcmsim.Faults{})
	t.sim.WebPush().SetFaults(webpushsim.Faults{})
	if err := t.done(ctx, fleet, n.ID, len(devices)); err != nil {
		return 0, err
	}
	if err := t.byPlatform(ctx, fleet, n.ID, devices); err != nil {
		return 0, err
	}
	fmt.Printf("round %d: %s; Apple's part after %v, Google's after %v, all after %v\n", round,
		[...]string{"browsers' service away", "all there", "FCM away", "all there"}[round%4], apple.Round(time.Millisecond),
		google.Round(time.Millisecond), time.Since(posted).Round(time.Millisecond))
	for _, d := range devices {
		got := int(t.received(d).Accepted)
		if got == 0 {
			return 0, fmt.Errorf("the device %s did not get it", d.Token)
		}
		duplicates += got - 1
	}
	return duplicates, t.badges(ctx, server.API, uint32(round))
}

// byPlatform checks the counts of each platform.
func (t *theatre) byPlatform(ctx context.Context, fleet []*rig.Server, id string, devices []rig.Device) error {
	var n rig.Notification
	if err := t.call(ctx, fleet, func(ctx context.Context, api rig.API) (err error) {
		n, err = api.Notification(ctx, id)
		return err
	}); err != nil {
		return err
	}
	for _, platform := range []string{"apns", "fcm", "webpush"} {
		want := int64(rig.Share(devices, platform))
		if c := n.ByPlatform[platform]; c.Accepted != want || c.Sum() != want {
			return fmt.Errorf("notification %s: %d recipients of %s, all accepted; it says %+v", id, want, platform, c)
		}
	}
	return nil
}

// received is what the device got.
func (t *theatre) received(d rig.Device) record.Counts {
	switch d.Platform {
	case "fcm":
		return t.sim.FCM().Counts(d.Token)
	case "webpush":
		return t.sim.WebPush().Counts(d.Token)
	}
	return t.sim.Counts(d.Token)
}
