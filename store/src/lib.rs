//! The reproducible artifact store.
