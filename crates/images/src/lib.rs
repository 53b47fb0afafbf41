//! The local image store: look up, list, remove, verify.
