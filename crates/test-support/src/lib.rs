//! Fakes and builders for tests: a registry with faults, images, layers, tree snapshots.
