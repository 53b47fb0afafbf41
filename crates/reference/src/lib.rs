//! Container image references: grammar, normalisation, defaults and aliases.
