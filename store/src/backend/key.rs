//! Object keys: names that stay inside the store on every backend.

use crate::error::{Error, ErrorKind, Result};

/// Whether `key` stays inside the store on every backend: plain segments of
/// letters, digits and `._-+=@`, none of them empty, `.` or `..`.
pub fn is_key(key: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+=@".contains(&byte);
    key.len() <= 1024
        && key
            .split('/')
            .all(|part| !matches!(part, "" | "." | "..") && part.bytes().all(plain))
}

/// Refuses what [`is_key`] refuses, as an error.
pub fn check_key(key: &str) -> Result<()> {
    if is_key(key) {
        return Ok(());
    }
    let shown: String = key.chars().take(80).collect();
    Err(Error::new(
        ErrorKind::Invalid,
        format!(
            "`{}` is not the name of an object in a store",
            shown.escape_default()
        ),
    ))
}
