package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// exportTokens writes every device of the app as a line. An export that fails on the way is cut off, so that it cannot
// be taken for a whole one.
func (a *API) exportTokens(ctx context.Context, x *exchange, r *http.Request) error {
	deadlines := http.NewResponseController(x)
	var after push.Token
	var out bytes.Buffer
	lines := json.NewEncoder(&out)
	for started := false; ; started = true {
		pageCtx, cancel := context.WithTimeout(ctx, progress)
		devices, next, err := a.tokens.List(pageCtx, x.who.app.Name, push.DeviceFilter{}, after, streamPage)
		cancel()
		err = cmp.Or(err, a.stillTaken(x.who))
		if err != nil && !started {
			return err
		}
		if err != nil {
			a.log.Warn("token export cut off", "app", x.who.app.Name, "error", err)
			panic(http.ErrAbortHandler)
		}
		if !started {
			x.Header().Set("Content-Type", ndjson)
			x.WriteHeader(http.StatusOK)
		}
		if r.Method == http.MethodHead { // the rest would be read for nobody
			return nil
		}
		out.Reset()
		for i := range devices {
			if err := lines.Encode(x.who.app.exportDevice(&devices[i])); err != nil {
				return fmt.Errorf("encode a device: %w", err)
			}
		}
		_ = deadlines.SetWriteDeadline(time.Now().Add(progress)) // a writer without deadlines, as in tests, does as well
		if _, err := x.Write(out.Bytes()); err != nil {
			return nil //nolint:nilerr // the client is gone, and with it whoever would read of the error
		}
		if next == "" {
			return nil
		}
		after = next
	}
}

// exportDevice is the device with what is needed to reach it.
func (a *App) exportDevice(d *push.Device) exportBody {
	line := exportBody{DeviceFields: a.showDevice(d)}
	if p, subscribes := a.platform(d.Token.PlatformName()).(Subscribes); subscribes && d.Address != nil {
		if subscription := p.Subscription(d.Address); subscription != nil {
			line.Subscription = json.RawMessage(subscription)
		}
	}
	return line
}
