package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// transfer is what the commands import and export are told: where the service is, and who asks.
type transfer struct {
	url, keyFile string
}

// adminKeyVariable names the environment variable with an app's key of scope admin.
const adminKeyVariable = "ADMIN_KEY"

func (t *transfer) flags(flags *pflag.FlagSet) {
	flags.StringVar(&t.url, "url", "http://127.0.0.1:8080", "where the API is")
	flags.StringVar(&t.keyFile, "key-file", "",
		"the `FILE` with the app's key of scope admin; else the variable "+adminKeyVariable)
}

func importCommand() *cobra.Command {
	return transferCommand("import FILE", "register the device tokens of a file, a line of JSON each, with the app's "+
		"key of scope admin; - is standard input", (*transfer).importTokens)
}

func exportCommand() *cobra.Command {
	return transferCommand("export FILE", "write the device tokens into a file, a line of JSON each, with the app's key "+
		"of scope admin; - is standard output", (*transfer).exportTokens)
}

// transferCommand is a command that says on stderr how far it is.
func transferCommand(use, short string,
	run func(t *transfer, ctx context.Context, key, file string, stdout, stderr io.Writer) error) *cobra.Command {
	var t transfer
	c := &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(1)}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		key, err := readKey(t.keyFile, adminKeyVariable)
		if err != nil {
			return err
		}
		return run(&t, cmd.Context(), key, args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	t.flags(c.Flags())
	return c
}

// readKey is the key in the file, or else in the environment.
func readKey(file, variable string) (string, error) {
	key := os.Getenv(variable)
	if file != "" {
		text, err := os.ReadFile(file) //nolint:gosec // it is the operator's own
		if err != nil {
			return "", fmt.Errorf("--key-file: %w", err)
		}
		key = strings.TrimPrefix(string(text), "\ufeff") // a byte-order mark, as some editors write it
	}
	if key = strings.TrimSpace(key); key == "" {
		return "", errors.New("a key is missing: --key-file FILE, or the variable " + variable)
	}
	return key, nil
}

func (t *transfer) importTokens(ctx context.Context, key, file string, stdout, stderr io.Writer) error {
	from, size := os.Stdin, int64(0)
	if file != "-" {
		f, err := os.Open(file) //nolint:gosec // it is the operator's own
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }() // it was only read
		info, err := f.Stat()
		if err != nil {
			return err
		}
		from, size = f, info.Size()
	}
	p := startProgress(stderr, "import", "lines")
	p.whole.Store(size)
	res, err := t.do(ctx, key, http.MethodPost, "import", p.read(from), "application/json")
	p.end()
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	var answer struct{ Refused int64 }
	var text bytes.Buffer
	if _, err = io.Copy(io.MultiWriter(stdout, &text), res.Body); err != nil {
		return err
	}
	if err := json.Unmarshal(text.Bytes(), &answer); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if answer.Refused > 0 {
		return fmt.Errorf("%d lines were refused: they are in the answer, with what is wrong with each", answer.Refused)
	}
	return nil
}

// exportTokens writes the file anew. One that breaks off on the way is an error, and the file stays as it was.
func (t *transfer) exportTokens(ctx context.Context, key, file string, stdout, stderr io.Writer) error {
	res, err := t.do(ctx, key, http.MethodGet, "export", http.NoBody, tokenLines)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	p := startProgress(stderr, "export", "lines")
	defer p.end()
	write := func(to io.Writer) error {
		if _, err := io.Copy(to, p.read(res.Body)); err != nil {
			return fmt.Errorf("the export is incomplete: %w", err)
		}
		return nil
	}
	if file == "-" {
		return write(stdout)
	}
	return replaceFile(file, write)
}

// replaceFile has write make the file anew, beside the one of before, whose place it takes once it is whole. A link
// stays one, and what is no plain file is written to as it is.
func replaceFile(path string, write func(io.Writer) error) (err error) {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	mode := os.FileMode(0o600)
	if before, err := os.Lstat(path); err == nil {
		if !before.Mode().IsRegular() {
			return writeInto(path, write)
		}
		mode = before.Mode().Perm()
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func writeInto(path string, write func(io.Writer) error) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600) //nolint:gosec // the operator's own
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, f.Close()) }()
	return write(f)
}

// tokenLines is the media type of imports and exports.
const tokenLines = "application/x-ndjson"

// do makes a request of any length. What is answered with another status than 200 is an error with the answer's text,
// and so is a 200 of another media type: a portal's page is no answer.
func (t *transfer) do(
	ctx context.Context, key, method, act string, body io.Reader, answer string,
) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(t.url, "/")+"/v1/tokens/"+act, body)
	if err != nil {
		return nil, fmt.Errorf("--url: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", tokenLines)
	res, err := asked.Do(req)
	if err == nil {
		err = redirected(res)
	}
	if err != nil {
		return nil, err
	}
	got, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if res.StatusCode == http.StatusOK && got == answer {
		return res, nil
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode == http.StatusOK {
		return nil, fmt.Errorf("what answers at --url is not the service: it gave %q, not %s", got, answer)
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<16))
	return nil, errors.Join(fmt.Errorf("%s:\n%s", res.Status, strings.TrimSpace(string(text))), err)
}
