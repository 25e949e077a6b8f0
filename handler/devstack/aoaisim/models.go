package aoaisim

import (
	_ "embed"
	"encoding/json"
	"slices"
	"strings"
	"sync"
)

//go:embed models.json
var modelsFile []byte

// model says what a model takes. A model that is not in the file takes everything.
type model struct {
	Name       string            `json:"name"`
	Date       string            `json:"date"`       // the last part of its versioned name
	Operations []string          `json:"operations"` // empty = all
	Refuses    map[string]string `json:"refuses"`    // parameters, each with what to use instead
	Reasoning  bool              `json:"reasoning"`  // it has encrypted reasoning
	Window     int               `json:"window"`     // tokens that it reads; 0 = any number
	Output     int               `json:"output"`     // tokens that it writes if the request sets no limit; 0 = any number
}

var models = sync.OnceValue(func() map[string]model {
	var list []model
	if err := json.Unmarshal(modelsFile, &list); err != nil {
		panic(err) // the file is a part of the program
	}
	byName := map[string]model{}
	for _, m := range list {
		byName[m.Name] = m
	}
	return byName
})

func (r *Region) modelOf(deployment string) model {
	name := r.o.Deployments[deployment].Model
	m := models()[name]
	m.Name = name
	return m
}

// version is the name that answers of chat, completions and embeddings have.
func (m model) version() string {
	return strings.TrimSuffix(m.Name+"-"+m.Date, "-")
}

func (m model) serves(operation string) bool {
	return len(m.Operations) == 0 || slices.Contains(m.Operations, operation)
}
