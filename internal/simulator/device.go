package simulator

import (
	"encoding/json"
	"strconv"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/simulator/fcmsim"
	"github.com/lhspn/lhspn/internal/simulator/webpushsim"
)

// device is one device on the page, with the notification that it shows.
type device struct {
	Kind  string // "iPhone"
	Token push.Token
	Count int // of the accepted notifications on the page
	Last  Notification
	shown
}

// shown is what a person sees of a notification.
type shown struct{ Title, Body, Badge string }

// kindOf names the device of a token for people.
func kindOf(token push.Token) string {
	switch token.Platform() {
	case fcmsim.Platform:
		return "Android phone"
	case webpushsim.Platform:
		return "browser"
	}
	return "iPhone"
}

// devicesOf are the devices that accepted something of the list, which is newest first, at most limit.
func devicesOf(list []Notification, limit int) []*device {
	var devices []*device
	known := map[push.Token]*device{}
	for _, n := range list {
		if n.Verdict != "accepted" {
			continue
		}
		d := known[n.Token]
		if d == nil {
			if len(devices) == limit {
				continue
			}
			d = &device{Kind: kindOf(n.Token), Token: n.Token, Last: n, shown: shownOf(n)}
			known[n.Token] = d
			devices = append(devices, d)
		}
		d.Count++
	}
	return devices
}

// alert is the part of a payload that people see, in any of its forms.
type alert struct {
	Title, Body string
	Count       json.Number `json:"notification_count"`
	CountCamel  json.Number `json:"notificationCount"`
}

// shownOf finds what a device would show of a payload. What it does not understand it shows as it is.
func shownOf(n Notification) shown {
	var payload struct {
		APS struct {
			Alert json.RawMessage
			Badge json.Number
		}
		Message struct {
			Notification alert
			Android      struct{ Notification alert }
		}
		Notification alert
		AppBadge     json.RawMessage `json:"app_badge"`
	}
	if json.Unmarshal([]byte(n.Payload), &payload) != nil {
		return shown{Body: n.Payload}
	}
	var s shown
	switch n.Token.Platform() {
	case fcmsim.Platform:
		common, android := payload.Message.Notification, payload.Message.Android.Notification
		s = shown{or(android.Title, common.Title), or(android.Body, common.Body),
			or(android.Count.String(), android.CountCamel.String())}
	case webpushsim.Platform:
		s = shown{payload.Notification.Title, payload.Notification.Body, string(payload.AppBadge)}
	default:
		var a alert
		if json.Unmarshal(payload.APS.Alert, &a) != nil {
			_ = json.Unmarshal(payload.APS.Alert, &a.Body) // a text alone
		}
		s = shown{a.Title, a.Body, payload.APS.Badge.String()}
	}
	if _, err := strconv.ParseUint(s.Badge, 10, 64); err != nil {
		s.Badge = ""
	}
	return s
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
