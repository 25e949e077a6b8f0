// Package gateway is the vocabulary that all layers share: who calls (Caller), what it cost (Usage), what happened
// (Record, Line, Body) and what went wrong (Error). It holds types and pure functions and imports no other package of
// the project.
package gateway
