//! Both programs as a user runs them.

mod archives;
mod build;
mod ceremonies;
mod conformance;
mod diff;
mod downloads;
mod hermetic;
mod holders;
mod hostile;
mod packages;
mod pages;
mod promotion;
mod python;
mod rebuild;
mod same_bytes;
mod shared;
mod signatures;
mod soak;
mod structure;
mod transfer;
mod vm;
