//! Both programs as a user runs them.

mod archives;
mod bases;
mod build;
mod ceremonies;
mod clocks;
mod conformance;
mod diff;
mod downloads;
mod exports;
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
mod signers;
mod soak;
mod structure;
mod team;
mod transfer;
mod vm;
