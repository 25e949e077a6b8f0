package app

import (
	"bytes"
	"log/slog"
	"testing"

	"aoaigateway/handler/app/settings"
	"aoaigateway/handler/backend"
	"aoaigateway/handler/policy"
)

func TestLogLevelIsASetting(t *testing.T) {
	for value, want := range map[string]slog.Level{
		"": slog.LevelInfo, "debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	} {
		s, err := settings.For(settings.Managing, []string{
			"GATEWAY_TABLE_ENDPOINT=https://x.table.core.windows.net", "GATEWAY_LOG_LEVEL=" + value,
		})
		if err != nil || s.LogLevel != want {
			t.Errorf("%q: level %v, %v; want %v", value, s.LogLevel, err, want)
		}
		var out, errs bytes.Buffer
		logger := NewLogger(s, &out, &errs).With("a", 1).WithGroup("g")
		for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
			out.Reset()
			errs.Reset()
			logger.Log(t.Context(), level, "line")
			written, severe := out.Len()+errs.Len() > 0, errs.Len() > 0
			if written != (level >= want) || severe != (written && level >= slog.LevelWarn) {
				t.Errorf("%q: a line of level %v written: %v, to stderr: %v", value, level, written, severe)
			}
		}
	}
}

func TestRoutesLeaveSettingsAlone(t *testing.T) {
	pol, err := policy.Parse("p", []byte("version: 1\nmodels: {m: {regions: {a: {weight: 3}}}}\nproducts: {p: {}}"))
	if err != nil {
		t.Fatal(err)
	}
	given := []backend.Region{{Name: "a", Models: map[string]string{"m": "d"}}}
	got := withRoutes(given, pol)
	if given[0].Routes != nil {
		t.Errorf("the settings were changed: %v", given[0].Routes)
	}
	if got[0].Routes["m"].Weight != 3 {
		t.Errorf("routes %v, want weight 3 for m", got[0].Routes)
	}
}
