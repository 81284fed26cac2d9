package protocol

import (
	"testing"
	"time"
)

func TestStartPositionsAreReadAsDocumented(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]Start{
		"":                      {},
		"earliest":              {Kind: StartEarliest},
		"latest":                {Kind: StartLatest},
		"-5":                    {Kind: StartLast, N: 5},
		"-0":                    {Kind: StartLast},
		"@10m":                  {Kind: StartTime, Time: now.Add(-10 * time.Minute)},
		"@1700000000":           {Kind: StartTime, Time: time.Unix(1700000000, 0)},
		"@2026-11-24T11:00:00Z": {Kind: StartTime, Time: now.Add(-time.Hour)},
		"AQEBAgMEBQYA":          {Kind: StartCursor, Cursor: "AQEBAgMEBQYA"},
	} {
		got, err := ParseStart(text, now)
		if err != nil || got.Kind != want.Kind || got.N != want.N || got.Cursor != want.Cursor || !got.Time.Equal(want.Time) {
			t.Errorf("ParseStart(%q): got %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"@", "@yesterday", "@-5", "@-10m", "@1e300", "@NaN", "-9999999999"} {
		if _, err := ParseStart(text, now); CodeOf(err) != BadCursor {
			t.Errorf("ParseStart(%q): got %v, want code %s", text, err, BadCursor)
		}
	}
}

func FuzzParseStart(f *testing.F) {
	for _, s := range []string{"", "-1", "@1", "@1h", "earliest", "AQ"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := ParseStart(s, time.Unix(0, 0)); err != nil && CodeOf(err) != BadCursor {
			t.Errorf("ParseStart(%q): got %v, want code %s", s, err, BadCursor)
		}
	})
}
