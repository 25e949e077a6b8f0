// Package blob stores append blobs and block blobs in one container: in Azure Blob Storage, or in memory for tests.
// Package blobtest holds both implementations to the same contract.
package blob
