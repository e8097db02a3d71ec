package payload

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// The push types, as in the apns-push-type header.
const (
	TypeAlert        push.Type = "alert"
	TypeBackground   push.Type = "background"
	TypeLocation     push.Type = "location"
	TypeVoIP         push.Type = "voip"
	TypeComplication push.Type = "complication"
	TypeFileProvider push.Type = "fileprovider"
	TypeMDM          push.Type = "mdm"
	TypeLiveActivity push.Type = "liveactivity"
	TypePushToTalk   push.Type = "pushtotalk"
	TypeWidgets      push.Type = "widgets"
	TypeControls     push.Type = "controls"
)

// The kinds of device token beside push.KindAlert.
const (
	KindVoIP              push.Kind = "voip"
	KindPushToTalk        push.Kind = "pushtotalk"
	KindLocation          push.Kind = "location"
	KindComplication      push.Kind = "complication"
	KindFileProvider      push.Kind = "fileprovider"
	KindWidgets           push.Kind = "widgets"
	KindControls          push.Kind = "controls"
	KindMDM               push.Kind = "mdm"
	KindLiveActivityStart push.Kind = "liveactivity-start" // of one type of activities
	KindLiveActivity      push.Kind = "liveactivity"       // of one activity
)

var tokenKinds = []push.TokenKind{
	{Kind: push.KindAlert}, {Kind: KindVoIP}, {Kind: KindPushToTalk}, {Kind: KindLocation}, {Kind: KindComplication},
	{Kind: KindFileProvider}, {Kind: KindWidgets}, {Kind: KindControls}, {Kind: KindMDM},
	{Kind: KindLiveActivityStart, Of: "attributes_type"}, {Kind: KindLiveActivity, Of: "activity_id"},
}

// typeRules is what APNs lays down for a push type.
type typeRules struct {
	suffix     string  // of the topic
	priorities []uint8 // the default one first
	kind       push.Kind
	lifetime   time.Duration // how long it is worth sending where nobody says
}

const (
	day  = 24 * time.Hour
	call = 30 * time.Second // after it a call is over
)

var (
	priorities = []uint8{10, 5, 1}

	rules = map[push.Type]typeRules{
		TypeAlert:        {"", priorities, push.KindAlert, day},
		TypeBackground:   {"", []uint8{5}, push.KindAlert, day},
		TypeLocation:     {".location-query", priorities, KindLocation, day},
		TypeVoIP:         {".voip", priorities, KindVoIP, call},
		TypeComplication: {".complication", priorities, KindComplication, day},
		TypeFileProvider: {".pushkit.fileprovider", priorities, KindFileProvider, day},
		TypeMDM:          {"", priorities, KindMDM, day}, // the topic is the certificate's UID, which is the app's topic
		TypeLiveActivity: {".push-type.liveactivity", []uint8{10, 5}, KindLiveActivity, time.Hour},
		TypePushToTalk:   {".voip-ptt", priorities, KindPushToTalk, call},
		TypeWidgets:      {".push-type.widgets", priorities, KindWidgets, day},
		TypeControls:     {".push-type.controls", priorities, KindControls, day},
	}

	types = []push.Type{
		TypeAlert, TypeBackground, TypeLocation, TypeVoIP, TypeComplication, TypeFileProvider, TypeMDM, TypeLiveActivity,
		TypePushToTalk, TypeWidgets, TypeControls,
	}
	typeNames = names(types)
)

func names(types []push.Type) string {
	list := make([]string, len(types))
	for i, t := range types {
		list[i] = string(t)
	}
	return strings.Join(list, ", ")
}

// rulesOf is what holds for the push type; event is that of a Live Activity's payload, whose start is for other tokens
// and lives longer than what follows.
func rulesOf(t push.Type, event string) typeRules {
	r := rules[t]
	if t == TypeLiveActivity && event == "start" {
		r.kind, r.lifetime = KindLiveActivityStart, day
	}
	return r
}

func (r *typeRules) allows(priority uint8) bool { return slices.Contains(r.priorities, priority) }

// priorityNames names those that allows allows, for a message.
func (r *typeRules) priorityNames() string {
	text := ""
	for i, p := range r.priorities {
		if i > 0 {
			text += " or "
		}
		text += strconv.Itoa(int(p))
	}
	return text
}

// derive is the push type that a payload speaks of: aps may be nil; badge says that each device's own badge is added.
func derive(aps push.JSON, badge bool) push.Type {
	if aps == nil || !aps.IsObject() {
		return TypeAlert
	}
	shown, background := badge, false
	for key, value := range aps.Members() {
		switch string(key.Text()) {
		case "event", "content-state":
			return TypeLiveActivity
		case "alert", "badge", "sound":
			shown = true
		case "content-available":
			background = string(value) == "1"
		}
	}
	if background && !shown {
		return TypeBackground
	}
	return TypeAlert
}
