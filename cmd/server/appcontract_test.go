package main

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lhspn/lhspn/internal/api"
	"github.com/lhspn/lhspn/internal/config"
)

// An app's entry in the API has the settings of the configuration's, with what is in a file in place of its path, their
// meanings and their bounds.
func TestAppContract(t *testing.T) {
	t.Parallel()
	want, got := map[string]string{}, map[string]string{}
	shape(want, "", reflect.TypeFor[config.App](), "yaml")
	shape(got, "", reflect.TypeFor[api.AppFields](), "json")
	delete(want, "fcm.credentials") // the machine's identity is for the file alone
	want["webhooks"] += " One that is given without its secret, by the same URL, keeps it."
	if len(want) < 50 {
		t.Errorf("only %d settings are found", len(want))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("internal/api/appcontract.go is not what internal/config has (-), (+):\n%s", diff)
	}
}

// shape lists a type's settings by their paths, with what is said of them.
func shape(into map[string]string, path string, of reflect.Type, names string) {
	for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
		of = of.Elem()
	}
	for i := range of.NumField() {
		f := of.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get(names), ",")
		if name == "-" || path+name == "keys" { // the keys have calls of their own
			continue
		}
		about := f.Tag.Get("doc")
		if names == "yaml" && f.Tag.Get("file") != "" {
			name = strings.TrimSuffix(name, "_file")
			about = "What is in the file, in base64. " + about
		}
		about = strings.TrimSuffix(about, " Never shown.")
		for _, bound := range []string{"min", "max"} {
			value := f.Tag.Get(bound)
			if names == "json" {
				value = f.Tag.Get(bound + "imum")
			}
			if elem := f.Type; value != "" && elem != reflect.TypeFor[time.Duration]() && elem.Kind() != reflect.Slice {
				about += " " + bound + " " + value
			}
		}
		into[path+name] = about
		elem := f.Type
		for elem.Kind() == reflect.Pointer || elem.Kind() == reflect.Slice {
			elem = elem.Elem()
		}
		if elem.Kind() == reflect.Struct && elem != reflect.TypeFor[time.Time]() {
			shape(into, path+name+".", elem, names)
		}
	}
}
