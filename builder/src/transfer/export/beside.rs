//! An exported file, and the files beside it.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use store::Sha256;
use store::dsse::{self, Envelope};
use store::export::{CHECKSUM_SUFFIX, Export, MANIFEST_SUFFIX, SIGNATURE_SUFFIX};
use tempfile::NamedTempFile;

use crate::atomic_file;
use crate::error::{Context, Error, Result};

/// The path of an exported file.
pub(super) struct OutputFile {
    directory: PathBuf,
    name: String,
}

/// A file that is being written, and removed again unless it gets its name.
pub(super) struct Part(NamedTempFile);

impl Part {
    pub(super) fn file(&mut self) -> &mut File {
        self.0.as_file_mut()
    }
}

impl OutputFile {
    /// Looks whether a file can be put there.
    pub(super) fn check(path: &Path) -> Result<Self> {
        let shown = path.display();
        let wrong =
            |why: String| Error::usage(format!("{shown} cannot be exported to")).detail(why);
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .filter(|name| !name.contains(char::is_control))
            .ok_or_else(|| wrong("its name is not plain text".into()))?;
        match path.symlink_metadata() {
            // Renaming over a device would remove the device.
            Ok(meta) if !meta.is_file() => {
                return Err(wrong("it is there, and no regular file".into())
                    .hint("name another file, or leave -o out and redirect standard output"));
            }
            _ => {}
        }
        let directory = match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
            Some(parent) => parent.to_owned(),
            None => return Err(wrong("it is a directory".into())),
        };
        if !directory.is_dir() {
            let why = format!("{} is not a directory", directory.display());
            return Err(wrong(why).hint("make the directory first"));
        }
        Ok(Self {
            directory,
            name: name.to_owned(),
        })
    }

    /// The file's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Where what is signed about it lies.
    pub(super) fn statement(&self) -> PathBuf {
        self.directory
            .join(format!("{}{SIGNATURE_SUFFIX}", self.name))
    }

    /// A new file beside where it goes.
    pub(super) fn part(&self) -> Result<Part> {
        let part = tempfile::Builder::new()
            .prefix(&format!(".{}.", self.name))
            .suffix(".part")
            // As any program makes files; the umask has its say.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(&self.directory)
            .context(|| format!("cannot write to {}", self.directory.display()))?;
        Ok(Part(part))
    }

    /// Writes what lies beside the file, and gives all their names, the file last.
    pub(super) fn finish(
        &self,
        file: Part,
        export: &Export,
        manifest: &[u8],
        envelope: &Envelope,
    ) -> Result<()> {
        let checksum = checksum(&export.file_sha256, &self.name);
        let files: [(&str, &[u8]); 3] = [
            (MANIFEST_SUFFIX, manifest),
            (SIGNATURE_SUFFIX, &envelope.to_json()),
            (CHECKSUM_SUFFIX, checksum.as_bytes()),
        ];
        let mut parts = Vec::new();
        for (suffix, bytes) in files {
            let name = format!("{}{suffix}", self.name);
            let mut part = self.part()?;
            part.file()
                .write_all(bytes)
                .context(|| format!("cannot write {name}"))?;
            parts.push((name, part));
        }
        parts.push((self.name.clone(), file));
        for (name, part) in &mut parts {
            let synced = part.file().sync_all();
            synced.context(|| format!("cannot write {name}"))?;
        }
        for (name, part) in parts {
            let path = self.directory.join(&name);
            atomic_file::check(&path)?;
            let renamed = part.0.persist(&path).map_err(|e| e.error);
            renamed.context(|| format!("cannot write {}", path.display()))?;
        }
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .context(|| format!("cannot write to {}", self.directory.display()))
    }

    /// Takes over what others signed about the same file before.
    pub(super) fn merge(&self, envelope: &mut Envelope) {
        let there = self.statement();
        let short = std::fs::metadata(&there).is_ok_and(|meta| meta.len() <= dsse::MAX_BYTES);
        let json = short.then(|| std::fs::read(&there).ok()).flatten();
        if let Some(there) = json.and_then(|json| Envelope::from_json(&json).ok()) {
            envelope.merge(&there);
        }
    }
}

/// A line for sha256sum(1), which escapes backslashes in names.
fn checksum(sha256: &Sha256, name: &str) -> String {
    if name.contains('\\') {
        return format!("\\{}  {}\n", sha256.hex(), name.replace('\\', r"\\"));
    }
    format!("{}  {name}\n", sha256.hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256sum_understands_the_checksum() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "a.tar",
            "two words.tar.zst",
            r"back\slash.tar",
            "ünï.tar.xz",
        ] {
            std::fs::write(dir.path().join(name), name).unwrap();
            let line = checksum(&Sha256::of(name.as_bytes()), name);
            std::fs::write(dir.path().join("sums"), line).unwrap();
            let status = std::process::Command::new("sha256sum")
                .args(["-c", "--strict", "--quiet", "sums"])
                .current_dir(dir.path())
                .status()
                .unwrap();
            assert!(status.success(), "{name}");
        }
    }

    #[test]
    fn devices_and_directories_stay() {
        for path in ["/dev/null", "/", "/tmp", "/nowhere/at/all.tar", "x/.."] {
            assert!(OutputFile::check(Path::new(path)).is_err(), "{path}");
        }
        assert_eq!(
            OutputFile::check(Path::new("a.tar")).unwrap().name(),
            "a.tar"
        );
    }
}
