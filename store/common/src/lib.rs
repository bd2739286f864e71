//! What `imgbuild`, `imgnode` and the store all need, and that belongs to none of them.
//!
//! `imgnode` links all of it: nothing here knows a terminal, a network or a store. Each module
//! uses only those that stand below it:
//!
//! ```text
//! error    kinds of failure, each with its exit code
//! display  text from outside, as a person may see it
//! clock    seconds since 1970: now, and as people write them
//! netrc    credentials of a netrc file
//! percent  percent-encoding
//! hex      hexadecimal digits
//! machine  this machine's architecture in Debian's words
//! ```

pub mod clock;
pub mod display;
mod error;
pub mod hex;
pub mod machine;
pub mod netrc;
pub mod percent;

pub use self::error::ErrorKind;
