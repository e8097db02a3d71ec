package api

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/lhspn/lhspn/internal/push"
)

// preview answers with what each platform would get, and how many devices of it.
func (a *API) preview(ctx context.Context, x *exchange, s *push.Submission) error {
	counts, exact := map[string]int{}, true
	for _, t := range s.Tokens {
		counts[t.PlatformName()]++
	}
	if s.Audience != nil {
		var err error
		if counts, exact, err = a.tokens.CountAudience(ctx, x.who.app.Name, *s.Audience); err != nil {
			return err
		}
	}
	answer := previewBody{Platforms: []platformPreview{}, Exact: exact}
	for _, p := range x.who.app.Platforms {
		n := s.Notification.For(p.Name())
		if n == nil {
			continue
		}
		answer.Platforms = append(answer.Platforms, platformPreview{
			Platform: p.Name(), ServiceID: n.ServiceIDText(), Payload: showPayload(p.Preview(n)), Size: n.Payload.MaxLen(),
			Recipients: counts[p.Name()],
		})
		answer.Recipients += counts[p.Name()]
	}
	return x.answer(http.StatusOK, answer)
}

// showPayload is JSON as it is, and anything else as a string.
func showPayload(payload []byte) any {
	if json.Valid(payload) {
		return json.RawMessage(payload)
	}
	return string(payload)
}
