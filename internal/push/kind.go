package push

// Kind is what a device token is for: the system gives an app tokens of several kinds, and what is sent to one of another kind
// than it is meant for does not arrive. The empty Kind is for alerts.
type Kind string

// The kinds.
const (
	KindAlert             Kind = ""
	KindVoIP              Kind = "voip"
	KindPushToTalk        Kind = "pushtotalk"
	KindLocation          Kind = "location"
	KindComplication      Kind = "complication"
	KindFileProvider      Kind = "fileprovider"
	KindWidgets           Kind = "widgets"
	KindControls          Kind = "controls"
	KindMDM               Kind = "mdm"
	KindLiveActivityStart Kind = "liveactivity-start" // of one type of activities
	KindLiveActivity      Kind = "liveactivity"       // of one activity

	// KindNone is of no device token: what goes to another topic than its type's own is for none that is registered.
	KindNone Kind = "none"
)

// alert is how the empty Kind is written.
const alert = "alert"

// Kinds lists them.
func Kinds() []Kind {
	return []Kind{KindAlert, KindVoIP, KindPushToTalk, KindLocation, KindComplication, KindFileProvider, KindWidgets, KindControls,
		KindMDM, KindLiveActivityStart, KindLiveActivity}
}

// ParseKind reads a kind as it is written.
func ParseKind(s string) (Kind, bool) {
	for _, k := range Kinds() {
		if s == k.String() {
			return k, true
		}
	}
	return "", false
}

// String is the kind as it is written.
func (k Kind) String() string {
	if k == KindAlert {
		return alert
	}
	return string(k)
}

// Kind is what tokens a notification of the type goes to; event is that of a Live Activity's payload.
func (t Type) Kind(event string) Kind {
	switch t {
	case TypeAlert, TypeBackground:
		return KindAlert
	case TypeLiveActivity:
		if event == "start" {
			return KindLiveActivityStart
		}
		return KindLiveActivity
	default:
		return Kind(t) // the others have a kind of their own
	}
}
