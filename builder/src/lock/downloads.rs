//! The files that `[[download]]` names: fetched once, and then retained.

use std::fs;
use std::io::Read;

use store::Sha256;

use super::LockRequest;
use crate::compression::{Compression, MAGIC, Unread};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::lock::fetch;
use crate::lockfile::{Download, Lock};
use crate::recipe::{self, Recipe};
use crate::ui::{self, Ui};

/// Whether a lock has what the recipe names, and nothing else.
pub(super) fn are_those_of(recipe: &Recipe, lock: &Lock) -> bool {
    let mut wanted: Vec<(&str, Sha256)> = recipe
        .downloads
        .iter()
        .map(|one| (one.url.as_str(), one.digest()))
        .collect();
    wanted.sort();
    wanted.dedup();
    let locked = lock.downloads.iter();
    wanted
        .into_iter()
        .eq(locked.map(|one| (one.url.as_str(), one.sha256)))
}

impl LockRequest<'_> {
    /// What the recipe names, with every file in the store.
    pub(super) fn downloads(&self, old: Option<&Lock>, ui: &mut Ui) -> Result<Vec<Download>> {
        if let (Some(lock), Some(caches)) = (old, self.caches) {
            let known = lock.downloads.iter();
            caches.inputs(known.map(|one| (one.sha256, one.size)), ui)?;
        }
        let mut locked = Vec::new();
        for wanted in &self.recipe.downloads {
            let sha256 = wanted.digest();
            if !self.inputs.has(&sha256) {
                self.fetch_download(wanted, sha256, ui)?;
            }
            let path = self.inputs.path(&sha256);
            let unreadable = || format!("cannot read {}", path.display());
            let size = fs::metadata(&path).context(unreadable)?.len();
            if wanted.unpack {
                let mut begun = Vec::new();
                let file = fs::File::open(&path).context(unreadable)?;
                file.take(MAGIC as u64)
                    .read_to_end(&mut begun)
                    .context(unreadable)?;
                Compression::of(&begun).map_err(|why| cannot_unpack(wanted, why))?;
            }
            locked.push(Download {
                url: wanted.url.to_string(),
                size,
                sha256,
            });
        }
        locked.sort();
        locked.dedup();
        Ok(locked)
    }

    fn fetch_download(&self, wanted: &recipe::Download, sha256: Sha256, ui: &mut Ui) -> Result<()> {
        self.allow_fetch(1, wanted.url.as_str())?;
        let mut phase = ui.phase("fetch a download");
        phase.output(wanted.url.as_str());
        let size = fetch::file(
            wanted.url.as_str(),
            sha256,
            &self.settings.archives,
            &self.settings.network,
            self.inputs,
            &self.work.scratch.join("fetch"),
        )?;
        phase.finish(&ui::size(size));
        Ok(())
    }
}

fn cannot_unpack(wanted: &recipe::Download, why: Unread) -> Error {
    let (what, program) = match why {
        Unread::Zip => ("is a zip archive".to_owned(), "unzip"),
        Unread::Compressed { with, program } => (format!("is compressed with {with}"), program),
    };
    Error::new(
        ErrorKind::Usage,
        format!("{} {what}, which `unpack` does not read", wanted.url),
    )
    .hint(format!(
        "leave out `unpack`, and unpack it in a [[run]] by `{program}` of a package in the image"
    ))
}
