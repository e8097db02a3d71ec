package config

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/lhspn/lhspn/internal/inline"
	"github.com/lhspn/lhspn/internal/push"
)

// An app can also be given as JSON, in the shape of its entry in the file. Files are base64 text then, in settings
// without the _file: key in place of key_file.

// appAt is where the loader finds the app's settings.
const appAt = "app"

// ParseApp reads an app's entry as JSON, an object, and checks it as Load does. The settings of faults are as
// apns.key_id.
func ParseApp(name string, doc []byte) (App, Faults) { return parseApp(name, doc, false) }

// ParseGivenApp is ParseApp for an entry that is not stored yet: each value must also be of its setting's JSON type.
// Those that are stored may be older than that, and are not to fail for it.
func ParseGivenApp(name string, doc []byte) (App, Faults) { return parseApp(name, doc, true) }

func parseApp(name string, doc []byte, typed bool) (App, Faults) {
	_, l := newLoader("")
	l.texts, l.typed = true, typed
	app := App{}
	setDefaults(&app)
	node, err := jsonNode(json.NewDecoder(bytes.NewReader(doc)))
	if err != nil {
		return app, Faults{{Message: "must be a JSON object"}}
	}
	group := setting{value: reflect.ValueOf(&app).Elem()}
	l.node(group, appAt, node)
	switch {
	case app.Name == "":
		app.Name = name
	case app.Name != name:
		l.fault(appAt+".name", "must be %s, as in the path, or left out", name)
	}
	l.required(group, appAt)
	l.app(appAt, &app)
	l.platforms(appAt, &app)
	l.distinctKeys(app.Keys)
	l.notOfTheHost(&app)
	faults := make(Faults, len(l.faults))
	for i, f := range l.faults {
		at := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(f.Setting, appAt), "."), fileSuffix)
		faults[i] = Fault{Setting: at, Message: f.Message}
	}
	return app, faults
}

// notOfTheHost refuses what would have whoever sets an app use what is the host's: its identity. Its files and programs
// are refused by package fcm, which knows what a service account's text names.
func (l *loader) notOfTheHost(app *App) {
	if app.FCM.OnMetadataServer() {
		l.fault(appAt+".fcm.credentials", "only the configuration file may name it: it is the identity of the machine")
	}
}

// distinctKeys checks that no two keys of the app have the same name, by which they are revoked, or are the same.
func (l *loader) distinctKeys(keys []Key) {
	names, hashes := map[string]bool{}, map[Hash]bool{}
	for i, key := range keys {
		at := appAt + ".keys[" + strconv.Itoa(i) + "]"
		if names[key.Name] {
			l.fault(at+".name", "is the name of another key too")
		}
		if hashes[key.SHA256] || IsDevKey(key.SHA256) {
			l.fault(at+".sha256", "is of another key too, or everybody knows the key")
		}
		names[key.Name], hashes[key.SHA256] = true, true
	}
}

// The tags of the nodes that jsonNode makes, but for null.
const (
	tagString = "!!str"
	tagNumber = "!!int"
	tagBool   = "!!bool"
)

// checkType says what is wrong with the JSON type of a single value that could be read.
func checkType(s setting, tag string) error {
	want, message := tagString, "must be a string, in quotes"
	switch _, isTime := s.value.Interface().(time.Duration); {
	case isTime:
	case s.value.CanInt() || s.value.CanFloat():
		want, message = tagNumber, "must be a number, without quotes"
	case s.value.Kind() == reflect.Bool:
		want, message = tagBool, "must be true or false, without quotes"
	}
	if tag != want {
		return errors.New(message)
	}
	return nil
}

// jsonNode makes a YAML node of the next JSON value: YAML readers take JSON only for the most part.
func jsonNode(dec *json.Decoder) (*yaml.Node, error) {
	dec.UseNumber()
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	scalar := func(tag, text string) (*yaml.Node, error) {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: text}, nil
	}
	switch v := token.(type) {
	case json.Delim:
		node := &yaml.Node{Kind: yaml.SequenceNode}
		if v == '{' {
			node.Kind = yaml.MappingNode
		}
		for dec.More() {
			element, err := jsonNode(dec)
			if err != nil {
				return nil, err
			}
			node.Content = append(node.Content, element)
		}
		_, err := dec.Token() // the end
		return node, err
	case string:
		return scalar(tagString, v)
	case json.Number:
		return scalar(tagNumber, v.String())
	case bool:
		return scalar(tagBool, strconv.FormatBool(v))
	}
	return scalar("!!null", "")
}

// text takes a file's content as base64 in place of its path.
func (l *loader) text(file setting, path string, n *yaml.Node) {
	l.where[path], l.where[path+fileSuffix] = place{}, place{}
	content, err := base64.StdEncoding.DecodeString(n.Value)
	if n.Kind != yaml.ScalarNode || l.typed && n.Tag != tagString || err != nil || len(content) == 0 {
		l.fault(path, "must be what is in the file, in base64")
		return
	}
	file.value.SetString(inline.Ref(strings.TrimPrefix(path, appAt+"."), content))
}

// secretTexts are the files' contents that are never shown.
var secretTexts = map[string]bool{"key": true, "certificate": true, "service_account": true, "vapid_key": true,
	"jwks": true}

// publicTexts are those that are shown, so that an entry that is shown can be given back.
var publicTexts = map[string]bool{"ca": true, "public_key": true}

// isSecret reports whether a member of an app's entry is never shown.
func isSecret(name string) bool {
	return secretTexts[name] || name == "certificate_password" || name == "secret" || name == "previous_secret"
}

// Describe is the app's entry as it may be shown: its settings that have a value, without secrets, the paths of files,
// and keys.
func (a *App) Describe() map[string]any {
	shown := describe(setting{value: reflect.ValueOf(a).Elem()})
	if apns, is := shown["apns"].(map[string]any); is && a.APNs.Transport != "binary" {
		for _, name := range binaryOnly {
			delete(apns, name)
		}
	}
	return shown
}

// zeroDefaults are the defaults of settings that are zero where nothing is said.
var zeroDefaults = []string{"", "0", "0s", "false"}

func describe(group setting) map[string]any {
	shown := map[string]any{}
	for name, m := range group.members() {
		switch {
		case m.file || name == "keys" && m.value.Type() == reflect.TypeFor[[]Key]():
		case publicTexts[strings.TrimSuffix(name, fileSuffix)] && inline.Is(m.value.String()):
			if content, err := inline.Read(m.value.String()); err == nil { // it is in memory
				shown[strings.TrimSuffix(name, fileSuffix)] = base64.StdEncoding.EncodeToString(content)
			}
		case m.tag.Get("secret") != "" || m.tag.Get("file") != "": // a path is the host's, a content secret
		case m.isGroup():
			// One of which nothing can be shown is there all the same: left out, it would be gone when this is given back.
			if inner := describe(m); (len(inner) > 0 || !m.value.IsZero()) && given(m) {
				shown[name] = inner
			}
		case m.isList() && m.element().isGroup():
			list := []any{}
			for i := range m.len() {
				list = append(list, describe(m.at(i)))
			}
			if len(list) > 0 {
				shown[name] = list
			}
		case !m.value.IsZero() || !slices.Contains(zeroDefaults, m.tag.Get("default")): // left out, it would be its default
			shown[name] = showValue(name, m.value.Interface())
		}
	}
	return shown
}

// given reports whether a platform's group is there at all: its defaults alone are not to be shown.
func given(group setting) bool {
	platform, is := group.value.Addr().Interface().(interface{ Given() bool })
	return !is || platform.Given()
}

func showValue(name string, value any) any {
	switch v := value.(type) {
	case time.Duration:
		return v.String()
	case push.Route:
		return string(v)
	case string:
		if name == "proxy" {
			return redacted(v)
		}
	}
	return value
}

// redacted is the URL without its password.
func redacted(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Redacted()
}

// atOnce are the settings that are taken up without a restart, with all that is below them.
var atOnce = map[string]bool{
	"apps": true, "operator_keys": true, "log.level": true, "webhooks": true,
	"queue.max_backlog": true, "queue.max_scheduled": true,
	"api.register_rate": true, "api.max_in_flight": true, "api.max_connections": true,
	"api.max_connections_per_address": true,
}

// Changed names the settings in which the two differ and that are taken up at a start only; lists without their
// elements.
func Changed(a, b *Config) []string {
	return changed(settingsOf(a), settingsOf(b), "")
}

func changed(a, b setting, path string) (names []string) {
	for name, m := range a.members() {
		at := join(path, name)
		other, _ := b.member(name)
		switch {
		case m.file || atOnce[at]:
		case m.isGroup():
			names = append(names, changed(m, other, at)...)
		case !reflect.DeepEqual(m.value.Interface(), other.value.Interface()):
			names = append(names, at)
		}
	}
	return names
}
