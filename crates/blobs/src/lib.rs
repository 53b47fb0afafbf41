//! Content-addressed blobs in an OCI image layout: ingest, follow, verify, publish.
