// Package gateway has the types that all packages share: who calls (Caller), what an answer
// used (Usage), what happened (Record, Line, Body) and what went wrong (Error). It has only
// types and pure functions, and imports no other package of the project.
package gateway
