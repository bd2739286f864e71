//! `imgnode`.
fn main() {}
