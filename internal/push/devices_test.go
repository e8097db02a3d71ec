package push

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDevices(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 2, 3, 4, 5, 6, 789_000, time.UTC)
	full := Device{Token: "fcm:b", Address: []byte{0, 1}, Environment: "fcm", Kind: "k", KindOf: "o", Badge: 1<<32 - 1, UserID: "u",
		Tags: []string{"a", "", "c"}, DeviceID: "d", AppVersion: "1", OSVersion: "2", DeviceModel: "3", Locale: "4", TimeZone: "5",
		LastUpdated: at, CreatedAt: at.Add(-time.Hour)}
	plain := Device{Token: "\xff\x00", Environment: Production, LastUpdated: at, CreatedAt: at}
	again := plain
	again.Badge = 7
	first := Device{Token: "\x00", Environment: Sandbox, LastUpdated: at, CreatedAt: at}
	var l Devices
	for range 2 {
		given := []Device{plain, full, again, first}
		for i := range given {
			l.Add(&given[i])
		}
		if got := l.Append(nil, 0, l.Len()); !cmp.Equal(got, given) {
			t.Errorf("as they were added: %s", cmp.Diff(given, got))
		}
		l.Add(&first)
		l.Truncate(len(given))
		l.SortByToken()
		want := []Device{first, full, plain, again}
		if got := l.Append(nil, 0, l.Len()); !cmp.Equal(got, want) {
			t.Errorf("sorted: %s", cmp.Diff(want, got))
		}
		if got := l.Append(nil, 1, 2); !cmp.Equal(got, want[1:2]) {
			t.Errorf("the second: %s", cmp.Diff(want[1:2], got))
		}
		l.Reset()
	}
}

// Of a device that comes twice the later token counts, and so the order stays.
func TestDevicesOfOneSlotStayInTheirOrder(t *testing.T) {
	t.Parallel()
	var l Devices
	for range 2 {
		for _, token := range []Token{"c", "b", "a"} {
			l.Add(&Device{Token: token, DeviceID: "twice"})
		}
		l.SortByToken()
		var got []Token
		for _, d := range l.Append(nil, 0, l.Len()) {
			got = append(got, d.Token)
		}
		if want := []Token{"c", "b", "a"}; !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
		l.Reset()
	}
}
