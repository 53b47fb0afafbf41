//! The SQLite database of a store: names, documents, layers, leases.
