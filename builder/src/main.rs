//! `imgbuild`.
fn main() {}
