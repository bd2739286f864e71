//! What diffoscope(1) makes of files that differ: it looks into archives,
//! programs and byte code. It is asked only when it is installed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use store::ReplayEvent;
use store::canonical_tar::{Kind as EntryKind, display};

use crate::atomic_file::remove;
use crate::error::{Context, Error, Result};
use crate::inspect::compare::{Change, Kind, Report, Side};
use crate::process::{Output, PATH, Tool};

/// How many files diffoscope compares.
const MOST_FILES: usize = 20;
/// The largest file that diffoscope compares, in bytes.
const MOST_BYTES: u64 = 32 << 20;
/// How many lines of diffoscope's output are shown.
const MOST_LINES: usize = 100;
/// How long diffoscope may take for one file.
const LIMIT: Duration = Duration::from_secs(120);

/// What it says about one file.
#[derive(Clone, Debug, Serialize)]
pub struct Opinion {
    /// The file's path in both images.
    pub path: String,
    /// What it says.
    pub text: String,
}

/// Asks about each file whose content differs. `scratch` is a directory that is
/// made for it and removed.
pub(super) fn ask(
    report: &Report,
    old: Side<'_>,
    new: Side<'_>,
    scratch: &Path,
) -> Result<Vec<Opinion>> {
    let program = PATH.split(':').map(|dir| Path::new(dir).join("diffoscope"));
    let Some(program) = program.into_iter().find(|path| path.is_file()) else {
        return Ok(Vec::new());
    };
    let wanted: Vec<String> = report
        .files
        .iter()
        .filter(|file| file.change == Change::Changed)
        // What the report shows by lines needs no second opinion.
        .filter(|file| file.kinds.contains(&Kind::Content) && file.text.is_none())
        .filter(|file| {
            file.new
                .as_ref()
                .is_some_and(|looks| looks.size <= MOST_BYTES)
        })
        .map(|file| file.path.clone())
        .take(MOST_FILES)
        .collect();
    let olds = extract(old, &wanted, &scratch.join("old"))?;
    let news = extract(new, &wanted, &scratch.join("new"))?;
    let mut opinions = Vec::new();
    for path in wanted {
        if let (Some(one), Some(other)) = (olds.get(&path), news.get(&path)) {
            let text = opinion(&program, one, other)?;
            opinions.push(Opinion { path, text });
        }
    }
    remove(scratch)?;
    Ok(opinions)
}

fn opinion(program: &Path, one: &Path, other: &Path) -> Result<String> {
    let mut lines = Vec::new();
    // Its exit code is 1 when it found a difference, which is no failure.
    let _ = Tool::new(program)
        .args(["--no-progress", "--text", "-", "--"])
        .args([one, other])
        .tied()
        .timeout(LIMIT)
        .run(Output {
            log: None,
            listen: &mut |line| {
                if lines.len() < MOST_LINES {
                    lines.push(line.to_owned());
                }
            },
        })?;
    Ok(lines.join("\n"))
}

/// Writes some files of an image to a directory; returns where each is.
fn extract(side: Side<'_>, wanted: &[String], dir: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let failed = || format!("cannot write to {}", dir.display());
    fs::create_dir_all(dir).context(failed)?;
    let unreadable = |error: &store::Error| {
        Error::failed(format!("cannot read the image {}", side.manifest.image)).because(error)
    };
    let image = side.store.image(side.manifest);
    let image = image.map_err(|error| unreadable(&error))?;
    let is_file =
        |entry: &store::canonical_tar::Entry| matches!(entry.kind, EntryKind::File { .. });
    let mut found = BTreeMap::new();
    let mut open: Option<File> = None;
    let mut broken = None;
    let replayed = image.replay(
        &mut |entry| is_file(entry) && wanted.contains(&display(&entry.path)),
        &mut |part| {
            let written = match part {
                ReplayEvent::Entry(entry, _) => {
                    let path = display(&entry.path);
                    open = None;
                    if is_file(entry) && wanted.contains(&path) {
                        // Numbered: a name of an image is nothing to open.
                        let place = dir.join(found.len().to_string());
                        File::create(&place).map(|file| {
                            open = Some(file);
                            found.insert(path, place);
                        })
                    } else {
                        Ok(())
                    }
                }
                ReplayEvent::Content(bytes) => match &mut open {
                    Some(file) => file.write_all(bytes),
                    None => Ok(()),
                },
                // Nobody said that a chunk is had.
                ReplayEvent::Known(_) => Ok(()),
            };
            written.map_err(|error| {
                broken = Some(error);
                store::Error::new(store::ErrorKind::Io, "a file could not be written")
            })
        },
    );
    if let Some(error) = broken {
        return Err(error).context(failed);
    }
    replayed.map_err(|error| unreadable(&error))?;
    Ok(found)
}
