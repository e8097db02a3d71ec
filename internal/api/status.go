package api

import (
	"github.com/lhspn/lhspn/internal/push"
)

// showStatus shows a notification as it was accepted and how far it is.
func (x *exchange) showStatus(s *push.Status) statusBody {
	b := statusBody{
		ID: s.ID.String(), State: string(s.State), Counts: countsBody(s.Counts), ByPlatform: map[string]countsBody{},
		Payload:   map[string]any{},
		CreatedAt: s.CreatedAt.UTC(), SendAt: s.SendAt.UTC(),
		FirstSentAt: timeOrNull(s.FirstSentAt), FinishedAt: timeOrNull(s.FinishedAt),
	}
	for platform, counts := range s.ByPlatform {
		b.ByPlatform[platform] = countsBody(counts)
	}
	if s.Expanded {
		b.Recipients = &s.Recipients
	}
	if s.Receipts != nil {
		b.Receipts = (*receiptCountsBody)(s.Receipts)
	}
	if n := s.Notification; n != nil {
		if n.Name != "" {
			b.Name = &n.Name
		}
		if id := n.ServiceIDText(); id != "" {
			b.ServiceID = &id
		}
		b.Payload = x.payloads(n)
	}
	if s.Audience != nil {
		b.Audience = showAudience(s.Audience)
	}
	return b
}

// payloads are what the platforms of the notification send, by their names. Those that the app no longer has are left
// out: only a platform knows its payload's form.
func (x *exchange) payloads(n *push.Notification) map[string]any {
	shown := map[string]any{}
	for _, p := range x.who.app.Platforms {
		if form := n.For(p.Name()); form != nil {
			shown[p.Name()] = showPayload(p.Preview(form))
		}
	}
	return shown
}

// usersShown bounds the users of an audience in an answer: a list of notifications has up to a thousand audiences of up
// to 10,000 users.
const usersShown = 100

func showAudience(a *push.Audience) *shownAudienceBody {
	b := &shownAudienceBody{All: a.All}
	if a.Environment != "" {
		environment := string(a.Environment)
		b.Environment = &environment
	}
	if a.Users != nil {
		count := len(a.Users)
		b.Users, b.UserCount = a.Users[:min(count, usersShown)], &count
	}
	if a.Tags != nil {
		b.Tags = &tagsBody{Any: a.Tags.Any, All: a.Tags.All, None: a.Tags.None}
	}
	return b
}
