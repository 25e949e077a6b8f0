// Package child ties started processes to this one, so that neither a test nor the local
// stack leaves a server behind, however it ends. Only Linux can promise that for every end.
package child
