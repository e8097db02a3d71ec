package inline_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/lhspn/lhspn/internal/inline"
)

func TestTextStandsForAFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("in a file\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, text, name string }{
		{file, "in a file\x00", file},
		{inline.Ref("the key of app x", []byte("with\x00zeros\n")), "with\x00zeros\n", "the key of app x"},
		{inline.Ref("", nil), "", ""},
	} {
		text, err := inline.Read(c.path)
		if err != nil || string(text) != c.text || inline.Name(c.path) != c.name {
			t.Errorf("%q: %q, %v, called %q", c.path, text, err, inline.Name(c.path))
		}
		if inline.Is(c.path) != (c.path != file) {
			t.Errorf("%q: taken for the other of text and file", c.path)
		}
	}
}
