package aoaisim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"aoaigateway/handler/devstack/aoaisim/scenario"
)

// Control is the handler of the control endpoint. It must be served on a listener of its
// own, so that it answers while the region refuses connections.
func (r *Region) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /control/counts", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, r.Counts()) })
	mux.HandleFunc("DELETE /control/counts", func(w http.ResponseWriter, _ *http.Request) {
		r.ResetCounts()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /control/exchanges", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, r.Exchanges()) })
	mux.HandleFunc("GET /control/faults", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, r.faults.list()) })
	mux.HandleFunc("POST /control/faults", r.postFault)
	mux.HandleFunc("DELETE /control/faults", func(w http.ResponseWriter, _ *http.Request) {
		r.ClearFaults()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("DELETE /control/faults/{id}", r.deleteFault)
	mux.HandleFunc("GET /control/scenarios", func(w http.ResponseWriter, _ *http.Request) {
		names, _ := scenario.Names()
		reply(w, http.StatusOK, names)
	})
	mux.HandleFunc("POST /control/step", r.postStep)
	return mux
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func mistake(w http.ResponseWriter, format string, args ...any) {
	reply(w, http.StatusBadRequest, map[string]string{"error": fmt.Sprintf(format, args...)})
}

func (r *Region) postFault(w http.ResponseWriter, req *http.Request) {
	var f Fault
	d := json.NewDecoder(req.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		mistake(w, "the body is not a fault in JSON: %v", err)
		return
	}
	if !slices.Contains(known, f.Do) {
		mistake(w, "do: %q is not one of %v", f.Do, known)
		return
	}
	if f.Do == DoStatus && (f.Status < 200 || f.Status > 599) {
		mistake(w, "status: %d is not between 200 and 599", f.Status)
		return
	}
	if f.Do == DoScenario && !scenario.Known(f.Scenario) {
		mistake(w, "scenario: there is none with the name %q; GET /control/scenarios lists them", f.Scenario)
		return
	}
	reply(w, http.StatusCreated, r.Fault(f))
}

func (r *Region) deleteFault(w http.ResponseWriter, req *http.Request) {
	id, err := strconv.Atoi(req.PathValue("id"))
	if err != nil || id <= 0 {
		mistake(w, "id: %q is not a number", req.PathValue("id"))
		return
	}
	r.clearFaults(id)
	w.WriteHeader(http.StatusNoContent)
}

func (r *Region) postStep(w http.ResponseWriter, req *http.Request) {
	var step struct {
		Events int `json:"events"`
	}
	if err := json.NewDecoder(req.Body).Decode(&step); err != nil || step.Events < 1 {
		mistake(w, `the body must be {"events":N} with N at least 1`)
		return
	}
	r.Step(step.Events)
	w.WriteHeader(http.StatusNoContent)
}
