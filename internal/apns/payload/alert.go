// Package payload is what APNs gets of a notification: push types, kinds of device token, and the payload with its
// alert.
package payload

import "encoding/json"

// Alert is the dictionary form of aps.alert that MakeAlert builds, with Apple's own keys.
type Alert struct {
	Body         string
	LocKey       string
	LocArgs      []string
	ActionLocKey *string
	LaunchImage  string
}

// MarshalJSON writes loc-key in place of body where there is one, and always writes action-loc-key: null there means an
// alert without a second button.
func (a Alert) MarshalJSON() ([]byte, error) {
	m := map[string]any{"action-loc-key": a.ActionLocKey}
	if a.LocKey != "" {
		m["loc-key"] = a.LocKey
	} else {
		m["body"] = a.Body
	}
	if a.LocArgs != nil {
		m["loc-args"] = a.LocArgs
	}
	if a.LaunchImage != "" {
		m["launch-image"] = a.LaunchImage
	}
	return json.Marshal(m)
}

// MakeAlert builds the value of aps.alert as the applications of LHSPNservice expect it: only a body gives the plain
// string; anything more gives a dictionary, in which locKey takes the place of body and a missing actionLocKey (nil)
// becomes an explicit null. An empty locKey or launchImage and a nil locArgs are left out.
func MakeAlert(body string, actionLocKey *string, locKey string, locArgs []string, launchImage string) any {
	if actionLocKey == nil && locKey == "" && locArgs == nil && launchImage == "" {
		return body
	}
	return Alert{Body: body, LocKey: locKey, LocArgs: locArgs, ActionLocKey: actionLocKey, LaunchImage: launchImage}
}
