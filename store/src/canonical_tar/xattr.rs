//! The extended attributes of a file, less those that are not the image's.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use rustix::fs::{lgetxattr, llistxattr};

use super::is_host_xattr;

/// Linux allows no longer list of names and no longer value.
const MAX: usize = 64 * 1024;

/// Reads the extended attributes of what is at `path`, symlinks not followed.
pub(super) fn read(path: &Path, buffer: &mut Vec<u8>) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut xattrs = BTreeMap::new();
    buffer.resize(MAX, 0);
    let len = match llistxattr(path, &mut buffer[..]) {
        Ok(len) => len,
        // A file system without attributes has none.
        Err(rustix::io::Errno::NOTSUP) => 0,
        Err(error) => return Err(error.into()),
    };
    if len == 0 {
        return Ok(xattrs);
    }
    let names = buffer[..len].to_vec();
    for name in names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        if is_host_xattr(name) {
            continue;
        }
        let len = lgetxattr(path, name, &mut buffer[..])?;
        xattrs.insert(name.to_vec(), buffer[..len].to_vec());
    }
    Ok(xattrs)
}
