// Package gateway is the vocabulary every layer speaks: who calls (Caller), what it
// cost (Usage), what happened (Record), what went wrong (Error). Types and pure
// functions over the standard library; it imports nothing of ours.
package gateway
