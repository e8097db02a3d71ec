package queue

import (
	"testing"

	"github.com/lhspn/lhspn/internal/push"
)

// A token of the default platform is any bytes, also such as come right behind a platform's own.
func TestPlatformsTokensAreARange(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		at := r.now().Add(-1)
		for _, token := range []push.Token{"fcm:one", "fcm;bytes of a device", "fcn", "fcm"} {
			err := r.RecordInvalidations(t.Context(), []push.Invalidation{
				{App: app, Token: token, Route: push.Production, At: at, Source: push.SourceUnregistered},
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		all := []string{push.DefaultPlatform, "fcm"}
		for name, want := range map[string]int{"fcm": 1, push.DefaultPlatform: 3} {
			n, err := r.PendingUnregistered(t.Context(), app, push.PlatformSet{Names: []string{name}, All: all}, 10)
			if err != nil || n != want {
				t.Errorf("of %s: %d, %v; want %d", name, n, err, want)
			}
		}
	})
}
