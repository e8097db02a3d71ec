package push

// Push types and limits of one platform, which the simulator still takes from here: the others take them from
// internal/apns/payload, where they belong.
const (
	TypeAlert        Type = "alert"
	TypeBackground   Type = "background"
	TypeLocation     Type = "location"
	TypeVoIP         Type = "voip"
	TypeComplication Type = "complication"
	TypeFileProvider Type = "fileprovider"
	TypeMDM          Type = "mdm"
	TypeLiveActivity Type = "liveactivity"
	TypePushToTalk   Type = "pushtotalk"
	TypeWidgets      Type = "widgets"
	TypeControls     Type = "controls"

	MaxPayload       = 4096
	MaxPayloadVoIP   = 5120
	MaxPayloadBinary = 2048
)
