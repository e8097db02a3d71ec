package database

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseTime(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		at := time.UnixMicro(rapid.Int64Range(-62_135_596_800_000_000, 253_402_300_799_999_999).Draw(t, "at")).UTC()
		text := at.Format(timeLayout)
		if got, err := parseTime(text); err != nil || !got.Equal(at) || got.Location() != time.UTC {
			t.Fatalf("%s: %v, %v", text, got, err)
		}
		wrong := []byte(text)
		for range rapid.IntRange(1, 3).Draw(t, "changes") {
			wrong[rapid.IntRange(0, len(wrong)-1).Draw(t, "where")] = rapid.SampledFrom([]byte("0123456789-:. Tx")).Draw(t, "to")
		}
		wrong = wrong[:rapid.SampledFrom([]int{len(wrong), len(wrong), len(wrong), len(wrong) - 1}).Draw(t, "length")]
		want, wantErr := time.ParseInLocation(timeLayout, string(wrong), time.UTC)
		if got, err := parseTime(string(wrong)); !got.Equal(want) || (err == nil) != (wantErr == nil) {
			t.Fatalf("%s: %v, %v; want %v, %v", wrong, got, err, want, wantErr)
		}
	})
}
