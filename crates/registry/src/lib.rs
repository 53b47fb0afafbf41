//! The OCI distribution protocol: challenge, token, retry, range, redirect.
