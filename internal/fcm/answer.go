package fcm

import (
	"bytes"
	"encoding/json"
	"strings"
)

// answer is what an error of FCM says, whichever part of the body says it. Its texts are FCM's; they are for looking
// at, and what they may repeat of a message or a token is not logged.
type answer struct {
	truncated bool // there is more of the body than was read
	isFCM     bool // the body is an error as Google's APIs write it
	status    string
	message   string
	errorCode string // google.firebase.fcm.v1.FcmError
	info      string // google.rpc.ErrorInfo, reason
	fields    []string
	device    bool // google.rpc.QuotaFailure names the quota of a device, not the project's
}

// parseAnswer reads an error's body (https://cloud.google.com/apis/design/errors#error_model). It takes what it
// understands and passes over the rest: an answer that is half garbage is judged by the other half.
func parseAnswer(body []byte) (a answer) {
	var text struct {
		Error *struct {
			Status  string
			Message string
			Details []json.RawMessage
		}
	}
	body = bytes.TrimSpace(body)
	if len(body) == 0 || body[0] != '{' {
		return a
	}
	// A member of another type leaves its field empty; only what is no JSON leaves all empty.
	_ = json.Unmarshal(body, &text)
	if text.Error == nil {
		return a
	}
	a.isFCM = true
	a.status, a.message = text.Error.Status, text.Error.Message
	for _, raw := range text.Error.Details {
		var d struct {
			Type            string `json:"@type"`
			ErrorCode       string `json:"errorCode"`
			Reason          string `json:"reason"`
			FieldViolations []struct {
				Field string `json:"field"`
			} `json:"fieldViolations"`
			Violations []struct {
				Subject     string `json:"subject"`
				Description string `json:"description"`
			} `json:"violations"`
		}
		_ = json.Unmarshal(raw, &d)
		switch d.Type[strings.LastIndexByte(d.Type, '/')+1:] {
		case "google.firebase.fcm.v1.FcmError":
			a.errorCode = d.ErrorCode
		case "google.rpc.ErrorInfo":
			a.info = d.Reason
		case "google.rpc.BadRequest":
			for _, v := range d.FieldViolations {
				a.fields = append(a.fields, v.Field)
			}
		case "google.rpc.QuotaFailure":
			for _, v := range d.Violations {
				subject := strings.ToLower(v.Subject)
				a.device = a.device || !strings.HasPrefix(subject, "project") && (strings.Contains(subject, "device") ||
					strings.Contains(subject, "token") || strings.Contains(strings.ToLower(v.Description), "device"))
			}
		}
	}
	return a
}

// messageID is what FCM calls a message that it has accepted, as its exports and its support do: the last part of the
// answer's name. It is empty where there is none.
func messageID(body []byte) string {
	var text struct{ Name string }
	_ = json.Unmarshal(body, &text)
	return text.Name[strings.LastIndexByte(text.Name, '/')+1:]
}

// blamesToken reports whether a 400 is about the target. Where FCM names no field, only the text of its message singles
// the token out from everything else that is an invalid argument.
func (a *answer) blamesToken() bool {
	for _, field := range a.fields {
		if field != "message.token" && field != "message.fid" {
			return false
		}
	}
	return len(a.fields) > 0 || strings.Contains(a.message, "registration token is not a valid FCM registration token") ||
		strings.Contains(a.message, "not a valid FCM registration") || strings.Contains(a.message, "Invalid registration")
}
