//! What a step sees, what it may do, and what of it stays: hermetic builds
//! through the real binary.

mod hostile;
mod killed;
mod normalise;
mod reach;
mod world;
