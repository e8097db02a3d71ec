package payload

import (
	"encoding/json"
	"fmt"
	"testing"
)

// The rules of the original system's alert helper.
func TestMakeAlert(t *testing.T) {
	t.Parallel()
	view, empty := "VIEW", ""
	for _, c := range []struct {
		alert any
		want  string
	}{
		{MakeAlert("b", nil, "", nil, ""), `"b"`},
		{MakeAlert("", nil, "", nil, ""), `""`},
		{MakeAlert("b", &view, "", nil, ""), `{"action-loc-key":"VIEW","body":"b"}`},
		{MakeAlert("b", &empty, "", nil, ""), `{"action-loc-key":"","body":"b"}`},
		{MakeAlert("b", nil, "K", []string{"x"}, ""), `{"action-loc-key":null,"loc-args":["x"],"loc-key":"K"}`},
		{MakeAlert("b", nil, "", nil, "i"), `{"action-loc-key":null,"body":"b","launch-image":"i"}`},
		{MakeAlert("", nil, "", []string{}, ""), `{"action-loc-key":null,"body":"","loc-args":[]}`},
	} {
		if got, err := json.Marshal(c.alert); err != nil || string(got) != c.want {
			t.Errorf("%s, want %s: %v", got, c.want, err)
		}
	}
}

func ExampleMakeAlert() {
	view := "VIEW"
	for _, alert := range []any{
		MakeAlert("Dinner is served", nil, "", nil, ""),
		MakeAlert("Dinner is served", &view, "", nil, ""),
		MakeAlert("", nil, "DINNER_FORMAT", []string{"Anna", "8"}, "dinner.png"),
	} {
		text, _ := json.Marshal(map[string]any{"aps": map[string]any{"alert": alert}})
		fmt.Println(string(text))
	}
	// Output:
	// {"aps":{"alert":"Dinner is served"}}
	// {"aps":{"alert":{"action-loc-key":"VIEW","body":"Dinner is served"}}}
	// {"aps":{"alert":{"action-loc-key":null,"launch-image":"dinner.png","loc-args":["Anna","8"],"loc-key":"DINNER_FORMAT"}}}
}
