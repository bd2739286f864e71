//! Verification and running of node images.
