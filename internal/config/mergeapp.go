package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/lhspn/lhspn/internal/inline"
)

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
