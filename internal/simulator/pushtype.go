package simulator

// The push types, and the payload limits in bytes, as APNs has them. The service has its own: what is tested must not
// share them with what tests it.
const (
	typeAlert        = "alert"
	typeBackground   = "background"
	typeLocation     = "location"
	typeVoIP         = "voip"
	typeComplication = "complication"
	typeFileProvider = "fileprovider"
	typeMDM          = "mdm"
	typeLiveActivity = "liveactivity"
	typePushToTalk   = "pushtotalk"
	typeWidgets      = "widgets"
	typeControls     = "controls"

	maxPayload       = 4096
	maxPayloadVoIP   = 5120
	maxPayloadBinary = 2048
)
