package config

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
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

// MergeApp gives doc the secrets of before that it leaves out, so that an app can be changed without them: of each
// group that has none of its own, unless its key_id is another; a proxy's password where its URL is as it is shown. A
// webhook that comes with a secret has no previous one but what comes with it.
//
// Whoever may change an app may not read its secrets: a credential that would come to where it was not sent before is
// not kept, and is among the Faults that MergeApp returns then.
func MergeApp(doc, before []byte) ([]byte, error) {
	var next, old map[string]any
	if err := decode(doc, &next); err != nil {
		return nil, fmt.Errorf("parse the app's entry: %w", err)
	}
	if err := decode(before, &old); err != nil {
		return nil, fmt.Errorf("parse the app's former entry: %w", err)
	}
	kept := map[string]bool{}
	mergeGroup(next, old, "", kept)
	merged, err := json.Marshal(next)
	if err != nil {
		return nil, fmt.Errorf("encode the app's entry: %w", err)
	}
	if faults := ledElsewhere(merged, before, kept); len(faults) > 0 {
		return nil, faults
	}
	return merged, nil
}

// ledElsewhere names the credentials, of those that are kept, which would come to another destination than before.
func ledElsewhere(merged, before []byte, kept map[string]bool) (faults Faults) {
	// What is wrong with either is told by others.
	next, _ := ParseApp("", merged)
	old, _ := ParseApp("", before)
	known := old.destinations()
	for name, to := range next.destinations() {
		isNew := func(d destination) bool { return !slices.Contains(known[name], d) }
		if kept[name] && slices.ContainsFunc(to, isNew) {
			faults = append(faults, Fault{Setting: name, Message: "must be given again, as where it is sent has changed: " +
				"what is kept stays with its gateway, feedback_address, token_url, ca and proxy"})
		}
	}
	slices.SortFunc(faults, func(a, b Fault) int { return strings.Compare(a.Setting, b.Setting) })
	return faults
}

// destination is where what a credential proves is sent, and by what that is known to be the right one.
type destination struct{ gateway, feedbackAddress, tokenURL, ca, proxy string }

// destinations are those of each credential, by its setting's name. One of APNs may be for both environments, which may
// differ.
func (a *App) destinations() map[string][]destination {
	all := map[string][]destination{}
	add := func(file, caFile string, d destination) {
		if file == "" {
			return
		}
		if caFile != "" {
			text, _ := inline.Read(caFile) // it is in memory
			d.ca = string(text)
		}
		all[inline.Name(file)] = append(all[inline.Name(file)], d)
	}
	for _, route := range a.APNs.Routes() {
		of := a.APNs.Of(route)
		to := destination{gateway: of.Gateway, feedbackAddress: of.FeedbackAddress, proxy: of.Proxy}
		add(of.KeyFile, of.CAFile, to)
		add(of.CertificateFile, of.CAFile, to)
	}
	add(a.FCM.ServiceAccountFile, a.FCM.CAFile,
		destination{gateway: a.FCM.Gateway, tokenURL: a.FCM.TokenURL, proxy: a.FCM.Proxy})
	// A token for a push service is good there only, wherever subscriptions lead.
	add(a.WebPush.VAPIDKeyFile, a.WebPush.CAFile, destination{})
	return all
}

// decode keeps numbers as they are written, so that they are judged as those of an entry that is new.
func decode(doc []byte, into *map[string]any) error {
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	return dec.Decode(into)
}

// mergeGroup adds the names of the secrets that stay to kept.
func mergeGroup(next, old map[string]any, path string, kept map[string]bool) {
	own := false
	for name := range next {
		own = own || isSecret(name)
	}
	id, has := next["key_id"]
	own = own || has && id != old["key_id"]
	for name, value := range old {
		given, there := next[name]
		switch value := value.(type) {
		case map[string]any:
			if inner, is := given.(map[string]any); is {
				mergeGroup(inner, value, join(path, name), kept)
			}
		case []any:
			mergeList(given, value)
		case string:
			switch {
			case isSecret(name) && !there && !own:
				next[name] = value
				kept[join(path, name)] = true
			case name == "proxy" && given == redacted(value):
				next[name] = value
			}
		}
	}
}

// mergeList merges the keys of user_tokens, which are known by their ids, and webhooks, by their URLs. Of several with
// one id, or with none, it is known which is which while there are as many without their secrets as there were. None
// of them is sent anywhere.
func mergeList(given any, old []any) {
	list, _ := given.([]any)
	former := elements(old, true)
	for id, next := range elements(list, false) {
		if len(next) == len(former[id]) {
			for i := range next {
				mergeGroup(next[i], former[id][i], "", map[string]bool{})
			}
		}
	}
}

// elements are those of the list that have a secret, or neither that nor anything in its place, by what they are known.
func elements(list []any, secret bool) map[[2]string][]map[string]any {
	by := map[[2]string][]map[string]any{}
	for i := range list {
		element, _ := list[i].(map[string]any)
		if element == nil || element["public_key"] != nil || (element["secret"] != nil) != secret {
			continue
		}
		id, _ := element["id"].(string)
		url, _ := element["url"].(string)
		by[[2]string{id, url}] = append(by[[2]string{id, url}], element)
	}
	return by
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
