//! Every attack on metadata that HOSTILE.md lists, forged with real keys.
//!
//! [`forge`] makes environments the way an attacker would: any field can be
//! bent before it is signed, by any key. [`node`] is the other side: a client
//! on a real directory that checks, for each refusal, its exact kind and that
//! the trusted state did not move by a byte.

mod attacks;
mod clock;
mod durable;
mod fixtures;
mod forge;
mod formats;
mod node;
mod releases;
mod versions;
mod waves;
