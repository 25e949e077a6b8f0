// Command fake stands where the gateway would, as far as the stack can tell.
package main

import (
	"encoding/json"
	"net/http"
	"os"
	"time"
)

var version = "unset"

func main() {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /openai/v1/models", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("api-key") != "demo-key" {
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
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(map[string]string{"id": "1", "primaryKey": "demo-key", "secondaryKey": version})
	})
	server := &http.Server{Addr: "127.0.0.1:" + os.Getenv("FUNCTIONS_CUSTOMHANDLER_PORT"), Handler: mux, ReadHeaderTimeout: time.Minute}
	_ = server.ListenAndServe()
	os.Exit(1)
}
