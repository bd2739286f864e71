//! Recipe to tree.
