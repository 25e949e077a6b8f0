// Package blob stores append blobs and block blobs in a container: Azure is the real store,
// and Mem is a store in memory for tests. Package blobtest checks that both behave as the
// Store interface says.
package blob
