package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/api"
	"github.com/lhspn/lhspn/internal/apns/payload"
	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/webpush"
)

// checkPayload reads the payload from its file, where it is in one, and looks whether the other options go with it.
func (m *message) checkPayload() error {
	if m.body != "" || m.locKey != "" || m.launchImage != "" || m.actionLocKey != nil || len(m.locArgs) > 0 {
		return errors.New("--payload is the whole of what is sent: it goes without --alert and the options of an alert")
	}
	if name, is := strings.CutPrefix(m.payloadText, "@"); is {
		text, err := os.ReadFile(name) //nolint:gosec // whoever runs the command names it
		if err != nil {
			return fmt.Errorf("--payload: %w", err)
		}
		m.payloadText = string(text)
	}
	parsed, err := push.ParseJSON([]byte(m.payloadText))
	if err != nil {
		return fmt.Errorf("--payload: %w", err)
	}
	for _, f := range slices.Concat(parsed.DuplicateKeys("payload"), parsed.LoneSurrogates("payload")) {
		err = errors.Join(err, fmt.Errorf("--payload: %s %s", f.Location, f.Message))
	}
	m.payloadText = string(parsed)
	return err
}

// composeAPNs makes the notification of a whole payload, checked as the API checks it.
func (m *message) composeAPNs(app *config.App, route push.Route, now time.Time) (*push.Notification, error) {
	p := &payload.Platform{Topic: app.APNs.Topic, Environments: app.APNs.Routes(),
		Binary: app.APNs.Of(route).Transport == "binary"}
	n, err := m.composePayload(app, p, now)
	if err == nil {
		n.Environment = route
	}
	return n, err
}

// composePayload makes a platform's notification of the payload: an APNs payload is aps with data beside it.
func (m *message) composePayload(app *config.App, p api.Platform, now time.Time) (*push.Notification, error) {
	blocks, fields := map[string]push.JSON{}, map[string]string{}
	switch p.Name() {
	case push.DefaultPlatform:
		var members map[string]json.RawMessage
		if err := json.Unmarshal([]byte(m.payloadText), &members); err != nil || members["aps"] == nil {
			return nil, errors.New(`--payload must be an object with aps, as {"aps": {"alert": "Hello"}}`)
		}
		blocks["aps"] = push.JSON(members["aps"])
		delete(members, "aps")
		if len(members) > 0 {
			data, err := json.Marshal(members)
			if err != nil {
				return nil, err
			}
			blocks["data"] = data
		}
		if m.pushType != "" {
			fields["push_type"] = m.pushType
		}
	case webpush.Name:
		text, err := json.Marshal(map[string]json.RawMessage{"payload": json.RawMessage(m.payloadText)})
		if err != nil {
			return nil, err
		}
		blocks[webpush.Name] = text
	default:
		blocks[p.Name()] = push.JSON(m.payloadText)
	}
	n, faults, err := p.Compose(&push.Content{
		ID: uuid.Must(uuid.NewV7()), App: app.Name, Blocks: blocks, Fields: fields, Expires: true,
		Expiration: now.Add(time.Hour), CreatedAt: now, SendAt: now,
	})
	for _, f := range faults {
		err = errors.Join(err, fmt.Errorf("--payload: %s %s", strings.TrimPrefix(f.Location, "body."), f.Message))
	}
	if err == nil && n == nil {
		err = errors.New("--payload has nothing to send")
	}
	return n, err
}
