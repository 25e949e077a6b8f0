// Command fake replaces the gateway in tests of package stack.
package main

import (
	"encoding/json"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

var version = "unset"

func main() {
	mux := http.NewServeMux()
	var imported atomic.Pointer[string] // the only valid key
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /openai/v1/models", func(w http.ResponseWriter, r *http.Request) {
		if key := imported.Load(); key == nil || r.Header.Get("api-key") != *key {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	mux.HandleFunc("POST /manage/api/subscriptions", func(w http.ResponseWriter, r *http.Request) {
		var secrets map[string]string
		_ = json.Unmarshal([]byte(os.Getenv("GATEWAY_SECRETS")), &secrets)
		if r.Header.Get("api-key") != secrets["gateway-admin-key"] {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		var want struct{ PrimaryKey string }
		_ = json.NewDecoder(r.Body).Decode(&want)
		imported.Store(&want.PrimaryKey)
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(map[string]string{"id": "1", "primaryKey": want.PrimaryKey, "secondaryKey": version})
	})
	server := &http.Server{Addr: "127.0.0.1:" + os.Getenv("FUNCTIONS_CUSTOMHANDLER_PORT"), Handler: mux, ReadHeaderTimeout: time.Minute}
	_ = server.ListenAndServe()
	os.Exit(1)
}
