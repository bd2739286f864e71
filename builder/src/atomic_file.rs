//! Files that are there whole or not at all

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::error::{Context, Result};

/// Writes a file that everybody may read: whoever is interrupted has the old one or the
/// new one.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .prefix(".imgbuild-")
        .permissions(PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .context(failed)?;
    file.write_all(bytes).context(failed)?;
    file.as_file().sync_all().context(failed)?;
    file.persist(path).map_err(|e| e.error).context(failed)?;
    Ok(())
}
