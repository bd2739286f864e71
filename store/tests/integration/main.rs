//! The store through its public interface, on real file systems and servers.
#![cfg(all(feature = "write", feature = "s3"))]

mod backends;
mod buckets;
mod check;
mod copy;
mod crash;
mod damage;
mod delta;
mod faults;
mod golden;
mod history;
mod imports;
mod maintenance;
mod memory;
mod stores;
mod support;
mod trees;
mod whole;
mod writers;
