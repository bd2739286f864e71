//! What this machine verified before, so that it need not be done again.
//!
//! Three kinds of facts. That a layout *expands* to an image stays true for ever: it follows
//! from chunks that are compared with their digests each time. That a *pack* holds what its
//! index says is true for as long as the file is the one that was read, so it is kept with
//! all that its place says about it: device, inode, size and the time of the last change,
//! which nobody can set back (stat(2)); in a bucket, the entity tag. In the same way a *tree*
//! that was published is the same image while each of its files is the one that was read.
//!
//! The facts lie in the cache of the machine and not in the store: who can write to a store
//! cannot say what is true of it. They may be lost or damaged at any time; then all is
//! verified as if it had never been.
//!
//! What a disk forgets by itself changes no time: a check of the store
//! ([`crate::maintenance::fsck`]) reads every byte whatever is known of packs.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::digest::{Blake3, ImageId, Sha256};
use crate::manifest::Manifest;

/// The name of the file.
const NAME: &str = "verified";

/// Its first line: the format, and the rules by which was verified.
const HEAD: &str = "imgbuild verified 1";

/// The most facts that are kept; the oldest go.
const MOST: usize = 1 << 14;

/// The longest fact that is kept.
const MAX_LINE: usize = 512;

/// Something that was verified.
pub(crate) enum Fact<'a> {
    /// Every chunk of a pack was compared with its digest, while its place said this of it.
    Pack {
        /// The pack.
        pack: &'a Blake3,
        /// What tells the file from one that was changed since.
        seal: &'a str,
    },
    /// A layout expands to the tar of these digests.
    Expansion {
        /// The digest of the layout.
        layout: &'a Blake3,
        /// The image.
        image: &'a ImageId,
        /// The other digest of its tar.
        sha256: &'a Sha256,
    },
    /// A tree of this machine was published as an image.
    Tree {
        /// What is the same again only for the same tree, unchanged.
        seal: &'a Blake3,
        /// The image.
        image: &'a ImageId,
    },
}

impl<'a> Fact<'a> {
    /// That the layout of a manifest expands to what the manifest says.
    pub(crate) fn expansion_of(manifest: &'a Manifest) -> Self {
        Self::Expansion {
            layout: &manifest.layout.digest,
            image: &manifest.image,
            sha256: &manifest.sha256,
        }
    }
}

impl fmt::Display for Fact<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pack { pack, seal } => write!(f, "pack {} {seal}", pack.hex()),
            Self::Expansion {
                layout,
                image,
                sha256,
            } => {
                let (layout, image) = (layout.hex(), image.hex());
                write!(f, "expansion {layout} {image} {}", sha256.hex())
            }
            Self::Tree { seal, image } => write!(f, "tree {} {}", seal.hex(), image.hex()),
        }
    }
}

/// What one machine verified.
#[derive(Debug)]
pub struct Verified {
    file: PathBuf,
    known: Mutex<Known>,
}

/// Facts, the oldest first.
#[derive(Debug, Default)]
struct Known {
    lines: Vec<String>,
    all: HashSet<String>,
}

impl Verified {
    /// The facts that a directory of this machine's cache has. It need not exist.
    pub fn open(directory: &Path) -> Self {
        let file = directory.join(NAME);
        let known = Mutex::new(Known::read(&file));
        Self { file, known }
    }

    /// Whether this was verified.
    pub(crate) fn knows(&self, fact: &Fact<'_>) -> bool {
        self.known().all.contains(&fact.to_string())
    }

    /// The image as which a tree was published.
    pub(crate) fn image_of(&self, seal: &Blake3) -> Option<ImageId> {
        let begin = format!("tree {} ", seal.hex());
        let known = self.known();
        let mut found = known
            .lines
            .iter()
            .rev()
            .filter_map(|line| line.strip_prefix(&begin));
        ImageId::from_hex(found.next()?).ok()
    }

    /// Keeps facts, with those that others kept meanwhile. One that cannot be kept is
    /// verified again next time.
    pub(crate) fn keep<'a>(&self, facts: impl IntoIterator<Item = Fact<'a>>) {
        let mut known = self.known();
        let lines: Vec<String> = facts.into_iter().map(|fact| fact.to_string()).collect();
        if lines.iter().all(|line| known.all.contains(line)) {
            return;
        }
        *known = Known::read(&self.file);
        for line in lines {
            known.add(line);
        }
        let excess = known.lines.len().saturating_sub(MOST);
        for line in known.lines.drain(..excess).collect::<Vec<_>>() {
            known.all.remove(&line);
        }
        // Whoever is killed, or loses power, leaves facts of before, or none.
        let _ = write(&self.file, &known.lines);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn read(file: &Path) -> Self {
        let text = fs::read_to_string(file).unwrap_or_default();
        let mut known = Self::default();
        // A file that was not written to its end has no last line, or half of one.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let mut lines = whole.split('\n');
        if lines.next() == Some(HEAD) {
            lines.for_each(|line| known.add(line.to_owned()));
        }
        known
    }

    fn add(&mut self, line: String) {
        let is_plain = line.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if is_plain && line.len() <= MAX_LINE && self.all.insert(line.clone()) {
            self.lines.push(line);
        }
    }
}

fn write(file: &Path, lines: &[String]) -> std::io::Result<()> {
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    let mut text = String::from(HEAD);
    for line in lines {
        text.push('\n');
        text.push_str(line);
    }
    text.push('\n');
    let draft = file.with_extension(std::process::id().to_string());
    fs::write(&draft, text)?;
    fs::rename(&draft, file).inspect_err(|_| {
        let _ = fs::remove_file(&draft);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_kept_beside_those_of_others_and_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("of/this/machine");
        let (pack, other) = (Blake3::of(b"pack"), Blake3::of(b"other"));
        let fact = |pack, seal| Fact::Pack { pack, seal };
        let [one, two] = [(); 2].map(|()| Verified::open(&cache));
        one.keep([fact(&pack, "1-2-3")]);
        two.keep([fact(&other, "4")]);
        assert!(two.knows(&fact(&pack, "1-2-3")), "the other's was read");
        let again = Verified::open(&cache);
        assert!(again.knows(&fact(&pack, "1-2-3")) && again.knows(&fact(&other, "4")));
        assert!(!again.knows(&fact(&pack, "1-2-4")) && !again.knows(&fact(&other, "1-2-3")));

        let seals: Vec<String> = (0..MOST - 1).map(|n| format!("n{n}")).collect();
        again.keep(seals.iter().map(|seal| fact(&pack, seal)));
        let last = Verified::open(&cache);
        assert!(!last.knows(&fact(&pack, "1-2-3")), "the oldest is gone");
        assert!(last.knows(&fact(&other, "4")) && last.knows(&fact(&pack, "n0")));
        let entries: Vec<_> = fs::read_dir(&cache).unwrap().collect();
        assert_eq!(entries.len(), 1, "{entries:?}");
    }

    #[test]
    fn what_was_not_written_whole_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(NAME);
        let pack = Blake3::of(b"pack");
        let fact = |seal| Fact::Pack { pack: &pack, seal };
        for text in [
            format!("{HEAD}\n{}", fact("12")),
            format!("imgbuild verified 0\n{}\n", fact("12")),
            format!("{}\n", fact("12")),
            String::new(),
        ] {
            fs::write(&file, &text).unwrap();
            let verified = Verified::open(dir.path());
            assert!(!verified.knows(&fact("12")), "{text}");
            verified.keep([fact("12")]);
            assert!(Verified::open(dir.path()).knows(&fact("12")));
        }
        // One that would read as two.
        let verified = Verified::open(dir.path());
        verified.keep([fact("1\npack 2"), fact(&"9".repeat(MAX_LINE))]);
        assert_eq!(Verified::open(dir.path()).known().lines.len(), 1);
    }
}
