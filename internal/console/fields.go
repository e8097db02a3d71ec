package console

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/lhspn/lhspn/internal/push"
)

// The usual settings of an app as fields of a form. All others are in the JSON, which the form keeps as they are.

// field is a setting.
type field struct {
	path, label, help, kind string // kind: text, select, number, file, secret, list or check
	options                 []string
}

type group struct {
	name, label string // name: of a platform, which is there or not; empty: always there
	fields      []field
}

var groups = []group{
	{"apns", "Apple devices (APNs)", []field{
		{"apns.topic", "Topic", "the app's bundle id", "text", nil},
		{"apns.environment", "Environment", "of tokens that are registered without one", "select",
			[]string{"", "production", "sandbox"}},
		{"apns.transport", "Transport", "http2 is Apple's; binary needs a gateway of your own", "select",
			[]string{"", "http2", "binary"}},
		{"apns.key", "Signing key", "the .p8 file; with key id and team id", "file", nil},
		{"apns.key_id", "Key id", "10 characters", "text", nil},
		{"apns.team_id", "Team id", "10 characters", "text", nil},
		{"apns.certificate", "Client certificate", ".p12 or PEM, in place of a signing key", "file", nil},
		{"apns.certificate_password", "Its password", "of a .p12 file", "secret", nil},
		{"apns.gateway", "Gateway", "host:port of another than Apple's", "text", nil},
		{"apns.connections", "Connections", "at the most, for each environment and replica", "number", nil},
		{"apns.max_rate", "Rate at the most", "notifications a second, for each replica; 0: no limit", "number", nil},
	}},
	{"fcm", "Android (FCM)", []field{
		{"fcm.service_account", "Service account", "the JSON file of the Firebase project", "file", nil},
		{"fcm.project_id", "Project id", "left out: the service account's", "text", nil},
		{"fcm.gateway", "Gateway", "host:port of another than Google's", "text", nil},
		{"fcm.max_rate", "Rate at the most", "messages a second, for all replicas", "number", nil},
	}},
	{"webpush", "Browsers (Web Push)", []field{
		{"webpush.vapid_key", "VAPID key", "the PEM file of server keygen --vapid", "file", nil},
		{"webpush.subject", "Subject", "mailto:push@example.com, or an https address", "text", nil},
	}},
	{"", "General", []field{
		{"events", "Keep events", "for GET /v1/events and webhooks", "check", nil},
		{"register_tags", "Tags of register keys", "beginnings, with commas between; left out: those without a colon", "list",
			nil},
	}},
}

type groupView struct {
	Name, Label string
	On          bool
	Fields      []fieldView
}

type fieldView struct {
	Path, Label, Help, Kind, Value, Fault string
	Options                               []string
	Checked                               bool
}

// ID is the field's in the page.
func (f fieldView) ID() string { return "f-" + strings.ReplaceAll(f.Path, ".", "-") }

// at is where an entry has a setting: the object that has it, nil where there is none, and its name there.
func at(entry map[string]any, path string, add bool) (map[string]any, string) {
	outer, name, inner := strings.Cut(path, ".")
	if !inner {
		return entry, path
	}
	object, is := entry[outer].(map[string]any)
	if !is && add {
		object = map[string]any{}
		entry[outer] = object
	}
	return object, name
}

func groupsOf(entry map[string]any) (all []groupView) {
	for _, g := range groups {
		_, on := entry[g.name].(map[string]any)
		shown := groupView{Name: g.name, Label: g.label, On: on || g.name == ""}
		for _, f := range g.fields {
			object, name := at(entry, f.path, false)
			field := fieldView{Path: f.path, Label: f.label, Help: f.help, Kind: f.kind, Options: f.options}
			switch value := object[name].(type) {
			case string:
				field.Value = value
			case bool:
				field.Checked = value
			case []any:
				texts := make([]string, len(value))
				for i, v := range value {
					texts[i] = fmt.Sprint(v)
				}
				field.Value = strings.Join(texts, ", ")
			case nil:
			default:
				field.Value = fmt.Sprint(value)
			}
			shown.Fields = append(shown.Fields, field)
		}
		all = append(all, shown)
	}
	return all
}

// mark puts a fault at its field, and reports whether there is one.
func (e *editView) mark(f push.Fault) bool {
	for i := range e.Groups {
		for j := range e.Groups[i].Fields {
			if field := &e.Groups[i].Fields[j]; field.Path == f.Location {
				field.Fault = f.Message
				e.Groups[i].On = true
				return true
			}
		}
	}
	return false
}

// isSecret reports whether the setting is never shown.
func (f *field) isSecret() bool { return f.kind == "file" || f.kind == "secret" }

// withoutSecrets is a copy of the entry that may be shown.
func withoutSecrets(entry map[string]any) map[string]any {
	text, err := json.Marshal(entry)
	if err != nil {
		return map[string]any{}
	}
	shown, err := parseEntry(text)
	if err != nil {
		return map[string]any{}
	}
	for _, g := range groups {
		for _, f := range g.fields {
			if object, name := at(shown, f.path, false); object != nil && f.isSecret() {
				delete(object, name)
			}
		}
	}
	return shown
}

// setFields sets in the entry what the form has. A platform that is switched off goes, with its credentials.
func setFields(entry map[string]any, r *http.Request) error {
	for _, g := range groups {
		if g.name != "" && r.PostFormValue("on."+g.name) == "" {
			delete(entry, g.name)
			continue
		}
		for _, f := range g.fields {
			value, err := valueOf(&f, r)
			if err != nil {
				return err
			}
			object, name := at(entry, f.path, true)
			switch {
			case value != nil:
				object[name] = value
			case !f.isSecret(): // secrets stay where they are left out
				delete(object, name)
			}
		}
	}
	return nil
}

// valueOf is a field's value as the entry has it; nil where it is left empty.
func valueOf(f *field, r *http.Request) (any, error) {
	text := strings.TrimSpace(r.PostFormValue(f.path))
	switch f.kind {
	case "file":
		content, err := fileOf(r, f.path)
		if err != nil || len(content) == 0 {
			return nil, err
		}
		return base64.StdEncoding.EncodeToString(content), nil
	case "check":
		return text != "", nil
	case "list":
		if text == "" {
			return nil, nil
		}
		parts := strings.Split(text, ",")
		for i := range parts {
			parts[i] = strings.TrimSpace(parts[i])
		}
		return slices.DeleteFunc(parts, func(s string) bool { return s == "" }), nil
	case "number":
		if text != "" && strings.Trim(text, "0123456789") == "" && len(text) < 10 {
			return json.Number(strings.TrimLeft(text[:len(text)-1], "0") + text[len(text)-1:]), nil
		}
	}
	if text == "" {
		return nil, nil
	}
	return text, nil
}

// fileOf is the content of a file that the form sends; empty where none was chosen.
func fileOf(r *http.Request, name string) ([]byte, error) {
	file, _, err := r.FormFile(name)
	if errors.Is(err, http.ErrMissingFile) || errors.Is(err, http.ErrNotMultipart) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the file of %s: %w", name, err)
	}
	defer file.Close()
	content, err := io.ReadAll(file)
	if err != nil {
		return nil, fmt.Errorf("read the file of %s: %w", name, err)
	}
	return content, nil
}
