//! Finds credentials for container registries in docker and containers configuration.
