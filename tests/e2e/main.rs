//! Both programs as a user runs them.

mod archives;
mod build;
mod conformance;
mod diff;
mod fanery;
mod hermetic;
mod packages;
mod promotion;
mod rebuild;
mod same_bytes;
mod shared;
mod transfer;
mod vm;
