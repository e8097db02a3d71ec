package tokens

import (
	"fmt"
	"slices"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sync/errgroup"

	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
)

func TestDeviceWithNewTokenReplacesOld(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		on := func(n int, device string) push.Registration {
			return push.Registration{Token: token(n), DefaultEnvironment: push.Production, DeviceID: &device, UserID: ptr("u"), Tags: ptr([]string{"t"})}
		}
		register(t, s, on(1, "A"))
		register(t, s, on(2, "B"))
		if _, _, err := s.Register(t.Context(), "other", on(3, "A")); err != nil {
			t.Fatal(err)
		}
		register(t, s, on(4, "A"))
		tokens := func() (n []int) {
			t.Helper()
			checkIndex(t, s)
			for _, a := range []string{app, "other"} {
				devices, _, err := s.List(t.Context(), a, push.DeviceFilter{}, "", 10)
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range devices {
					n = append(n, int(d.Token[7]))
				}
			}
			return n
		}
		if got := tokens(); !slices.Equal(got, []int{2, 4, 3}) {
			t.Errorf("a new token: left %v", got)
		}
		register(t, s, on(2, "A"))
		if got := tokens(); !slices.Equal(got, []int{2, 3}) {
			t.Errorf("a known token: left %v", got)
		}
		// Within one transaction: the last one has the device; one that was replaced and comes back is new.
		group := []*change{}
		for _, r := range []push.Registration{on(5, "A"), on(6, "A"), on(2, "A"), on(7, "C"), on(8, "C"), registration(7)} {
			group = append(group, &change{app: app, token: r.Token, register: &r})
		}
		if errs := s.commit(t.Context(), group); errs[0] != nil {
			t.Fatal(errs)
		}
		if got := tokens(); !slices.Equal(got, []int{2, 7, 8, 3}) {
			t.Errorf("in one transaction: left %v", got)
		}
		if !group[2].created || !group[5].created || group[5].device.DeviceID != "" {
			t.Error("what came back is not new")
		}
		var m dto.Metric
		if err := s.metrics.removals.WithLabelValues(removedReplaced).Write(&m); err != nil || m.Counter.GetValue() != 2 {
			t.Errorf("counted %v, %v", &m, err)
		}
	})
}

// The same device comes with two tokens at once, over two replicas: one of them stays.
func TestDeviceWithTwoTokensAtOnce(t *testing.T) {
	t.Parallel()
	address := dbtest.MySQLAddress(t)
	var stores []*Store
	for range 2 {
		stores = append(stores, open(t, dbtest.Open(t, address)))
	}
	for round := range 20 {
		var g errgroup.Group
		for i, s := range stores {
			g.Go(func() error {
				r := registration(2*round + i)
				r.DeviceID = ptr(fmt.Sprint("device", round))
				_, _, err := s.Register(t.Context(), app, r)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		devices, _, err := stores[0].List(t.Context(), app, push.DeviceFilter{}, "", 100)
		if err != nil || len(devices) != round+1 {
			t.Fatalf("round %d: %d devices, %v", round, len(devices), err)
		}
	}
	checkIndex(t, stores[0])
}
