// Package inline lets text be given where the path of a file is expected: credentials that are kept in the database go
// the same ways as those in files. Whoever reads such a file reads it with Read and names it with Name, in errors and
// logs.
//
// It knows nothing of what the text is.
package inline

import (
	"os"
	"strings"
)

// mark cannot begin a path.
const mark = "\x00inline:"

// Ref is what is given in place of a path. Name is how the text is called where a path would be shown.
func Ref(name string, text []byte) string { return mark + name + "\x00" + string(text) }

// Is reports whether path was made by Ref.
func Is(path string) bool { return strings.HasPrefix(path, mark) }

// Read is the text itself, or what is in the file.
func Read(path string) ([]byte, error) {
	if rest, is := strings.CutPrefix(path, mark); is {
		_, text, _ := strings.Cut(rest, "\x00")
		return []byte(text), nil
	}
	return os.ReadFile(path) //nolint:gosec,wrapcheck // an operator names it; the error names the file
}

// Name is the path, or the text's name: never the text.
func Name(path string) string {
	if rest, is := strings.CutPrefix(path, mark); is {
		name, _, _ := strings.Cut(rest, "\x00")
		return name
	}
	return path
}
