//! Brings locked inputs into the store: bytes whose digest is already known.
//!
//! Debian packages come through the machine's own apt (apt-helper
//! download-file), with its proxies and credentials, many to a connection; what
//! it brings is hashed again on its way into the store. Python files come
//! through the tree's pip, see [`crate::resolve::python`].

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use store::Inputs;

use crate::error::{Context, Error, Result};
use crate::host::Archives;
use crate::layers::remove;
use crate::lock::{Deb, Lock};
use crate::process::{Output, Tool};

/// How many packages one apt-helper gets; more share its connection.
const BATCH: usize = 40;
const TIMEOUT: Duration = Duration::from_secs(3600);

/// What the store lacks of the lock's Debian packages.
pub fn missing_debs<'l>(lock: &'l Lock, inputs: &Inputs) -> Vec<&'l Deb> {
    lock.debs
        .iter()
        .filter(|deb| !inputs.has(&deb.sha256))
        .collect()
}

/// Fetches Debian packages; `progress` hears of the bytes that arrived.
pub fn debs(
    missing: &[&Deb],
    archives: &Archives,
    acquire: &str,
    beside: &Path,
    inputs: &Inputs,
    scratch: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    remove(scratch)?;
    fs::create_dir_all(scratch).context(|| format!("cannot make {}", scratch.display()))?;
    let conf = scratch.join("apt.conf");
    fs::write(
        &conf,
        format!("APT::Sandbox::User \"root\";\nAcquire::Retries \"5\";\n{acquire}"),
    )
    .context(|| format!("cannot write {}", conf.display()))?;
    let (local, remote): (Vec<&Deb>, Vec<&Deb>) = missing
        .iter()
        .copied()
        .partition(|deb| deb.archive.is_none());
    for deb in local {
        keep(deb, &beside.join(&deb.path), inputs)?;
        progress(deb.size);
    }
    for batch in remote.chunks(BATCH) {
        let mut tool = Tool::new("/usr/lib/apt/apt-helper")
            .tied()
            .env("APT_CONFIG", &conf)
            .arg("download-file")
            .timeout(TIMEOUT);
        for deb in batch {
            let archive = deb.archive.as_deref().unwrap_or_default();
            let url = format!("{}/{}", archives.url(archive)?, deb.path);
            let file = scratch.join(deb.sha256.hex());
            tool = tool
                .arg(url)
                .arg(file)
                .arg(format!("SHA256:{}", deb.sha256.hex()));
        }
        let ran = tool.run(Output {
            log: None,
            listen: &mut |_| {},
        })?;
        for deb in batch {
            let file = scratch.join(deb.sha256.hex());
            if file.exists() {
                keep(deb, &file, inputs)?;
                let _ = fs::remove_file(&file);
                progress(deb.size);
            }
        }
        if let Err(failure) = ran {
            let lost: Vec<&Deb> = batch
                .iter()
                .copied()
                .filter(|d| !inputs.has(&d.sha256))
                .collect();
            let Some(first) = lost.first() else { continue };
            let others = lost.len() - 1;
            let more = if others == 0 {
                String::new()
            } else {
                format!(" and {others} more")
            };
            let mut error = Error::failed(format!(
                "cannot fetch {} {}{more}",
                first.name, first.version
            ));
            for line in failure.tail().iter().filter(|l| l.starts_with(['E', 'W'])) {
                error = error.detail(line.clone());
            }
            return Err(error.hint(
                "a mirror drops old versions: use a store that retains them, another --archive, \
                 or `imgbuild lock --upgrade`",
            ));
        }
    }
    remove(scratch)
}

fn keep(deb: &Deb, file: &Path, inputs: &Inputs) -> Result<()> {
    let mut reader = File::open(file).context(|| format!("cannot read {}", file.display()))?;
    inputs
        .insert(&mut reader, Some(&deb.sha256))
        .context(|| format!("cannot keep {} {} in the store", deb.name, deb.version))?;
    Ok(())
}
