//! Registry to store: resolve, plan, fetch and extract at once, commit.
