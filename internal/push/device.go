package push

import "time"

// Device is a registered device token with what is known of its device.
type Device struct {
	Token Token
	// Address is what the platform needs beside the token to reach the device, in a form of its own; nil where the
	// token is all. It may hold secrets: it is not for logs, and lists do not show it.
	Address     []byte
	Environment Route
	// Kind is what the token is for; KindOf names the activity, or the type of activities, where the kind has such.
	Kind   Kind
	KindOf string
	// Badge is the number last stored for the device.
	Badge  uint32
	UserID string
	Tags   []string
	// DeviceID is the app's own name for the device: the same device coming with a new token of a kind replaces its old
	// one.
	DeviceID    string
	AppVersion  string
	OSVersion   string
	DeviceModel string
	Locale      string
	TimeZone    string
	// LastUpdated is the last registration: what the service found dead at or before it is removed, what came back
	// later stays.
	LastUpdated time.Time
	CreatedAt   time.Time
}

// Registration is what a mobile app says of itself when it registers its device token. A nil field keeps what is
// stored, a pointer to the empty value clears it.
type Registration struct {
	Token Token
	// Address, where nil, keeps what is stored: see Device.
	Address []byte
	// Environment, where empty, keeps what is stored; a new token gets DefaultEnvironment, the app's.
	Environment        Route
	DefaultEnvironment Route
	// Kind and KindOf, where nil, keep what is stored.
	Kind   *Kind
	KindOf *string
	// Badge is stored as it is, whatever was there: an app that registers has just been opened.
	Badge       uint32
	UserID      *string
	Tags        *[]string
	DeviceID    *string
	AppVersion  *string
	OSVersion   *string
	DeviceModel *string
	Locale      *string
	TimeZone    *string
	// Replaces is a token that is removed with this one's registration: the device has got this one in its place. Empty:
	// none.
	Replaces Token
	// Bounds, where not nil, are those of a caller that may be anybody.
	Bounds *Bounds
}

// Bounds are what a registration may change of what is stored, where whoever has the app may have sent it. It takes no
// device's place from another token, unless that is named as the one that is replaced, or is of the user that the
// caller has proved to be. Of a token that has a user it changes neither that nor environment and kind without the
// proof of that user; it gives ErrForbidden. It neither sets nor removes tags that are not its own.
type Bounds struct {
	// User is who the caller has proved to be; empty: nobody.
	User string
	// OwnTag says which tags such a caller may set and remove.
	OwnTag func(tag string) bool
}

// Proves reports whether the caller is the device's user.
func (b *Bounds) Proves(d *Device) bool { return d.UserID != "" && d.UserID == b.User }

// DeviceFilter selects registered devices; empty fields select all.
type DeviceFilter struct {
	UserID      string
	Tag         string
	Environment Route
	Platform    string
	// IdleBefore, where not zero, selects those that were last registered before it.
	IdleBefore time.Time
}

// The limits of what is kept with a device token, in bytes where not in number.
const (
	MaxUserID   = 255
	MaxDeviceID = 255
	MaxTags     = 64
	MaxTag      = 100
	// MaxDescription holds for each of the descriptive fields: app and OS version, device model, locale, time zone.
	MaxDescription = 255
	MaxAddress     = 4096
)

// kindActivity is the kind of token of which each thing that KindOf names has one, whatever the device.
const kindActivity Kind = "liveactivity"

// Slot names the place of which there is one for a token: a device has one token of each platform and kind, and an
// activity has one. It is empty where the token has none.
func (d *Device) Slot() string {
	platform := d.Token.Platform()
	switch {
	case d.Kind == kindActivity && d.KindOf != "":
		return "\x00" + d.KindOf
	case d.DeviceID == "" || d.Kind == KindAlert && platform == "":
		return d.DeviceID
	}
	return d.DeviceID + "\x00" + platform + "\x00" + string(d.Kind) + "\x00" + d.KindOf
}
