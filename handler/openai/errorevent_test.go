package openai_test

import (
	"testing"

	"aoaigateway/handler/openai"
)

func TestErrorEventForms(t *testing.T) {
	for kind, want := range map[openai.Kind]string{
		openai.Chat: `data: {"error":{"code":"upstream_cut","message":"The region broke off.","param":null,"type":"server_error"}}` + "\n\n",
		openai.Responses: "event: error\n" +
			`data: {"code":"upstream_cut","message":"The region broke off.","param":null,"type":"error"}` + "\n\n",
	} {
		if got := string(openai.ErrorEvent(kind, "upstream_cut", "The region broke off.")); got != want {
			t.Errorf("%s: %s", kind, got)
		}
	}
}
