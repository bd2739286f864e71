//! Writing the tree of a generation, and reading it back.

use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::thread;

use rustix::io::Errno;
use store::canon::Entry;
use store::manifest::Manifest;
use store::{Image, Part};

use crate::error::{Error, Result};
use crate::event::{Event, Observer};
use crate::node::go_on;
use crate::storage::{Staging, Tree};
use crate::tree::compare;
use crate::tree::extract::Extractor;
use crate::tree::patch;
use crate::tree::reuse::Previous;

/// Where the bytes of a new tree came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Bytes of content that were written or shared anew.
    pub written: u64,
    /// Of all content, bytes that were on this node already.
    pub reused: u64,
    /// Bytes that the store sent, when it is far.
    pub fetched: Option<u64>,
    /// How what was not here came.
    pub way: Way,
}

/// A way to what is not on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// All of the image: nothing of it is here.
    #[default]
    Whole,
    /// Ranges of packs.
    Packs,
    /// A delta of so many bytes, where packs would take so many.
    Delta {
        /// Bytes of the delta.
        size: u64,
        /// Bytes of packs and indexes that it stands for.
        packs: u64,
    },
}

/// What is about to be written.
pub(crate) struct Writing<'a>(&'a Manifest);

impl<'a> Writing<'a> {
    /// The tree of this image.
    pub(crate) fn of(manifest: &'a Manifest) -> Self {
        Self(manifest)
    }

    /// Says so.
    pub(crate) fn announce(&self, observer: &dyn Observer) {
        observer.event(Event::Phase(&format!(
            "writing {} ({} files, {} MB)",
            self.0.image,
            self.0.entries,
            self.0.size / 1_000_000
        )));
    }
}

/// Fills a staging tree with an image, with the help of what the previous generation has.
pub(super) fn fill(
    image: &Image,
    manifest: &Manifest,
    staging: &Staging,
    previous: Option<Previous>,
    observer: &dyn Observer,
    cancel: &AtomicBool,
) -> Result<Tally> {
    let privileges = manifest.privileges();
    let privilege = |entry: &Entry| privileges.check(entry).map_err(Error::from);
    let root = || staging.tree.reopen();
    let (extractor, mut previous) = if staging.copied {
        observer.event(Event::Phase("comparing the copy with the new release"));
        let survey = patch::survey(root()?, image.entries()?, cancel)?;
        patch::prune(&root()?, &survey)?;
        let previous = if let Some(previous) = previous {
            previous
        } else {
            // What stays must not be fetched, even if nothing else is known.
            let stays = image.entries()?.zip(&survey.keep);
            let stays = stays.filter(|(_, keep)| **keep).map(|(signed, _)| signed);
            Previous::index(Tree::plain(root()?), stays)?
        };
        let extractor = Extractor::over(root()?, &privilege, survey.keep);
        (extractor, Some(previous))
    } else {
        (Extractor::new(root()?, &privilege), previous)
    };
    if let Some(previous) = &mut previous {
        previous.try_sharing(root()?);
    }
    unpack(image, manifest, extractor, previous, observer, cancel)
}

fn unpack(
    image: &Image,
    manifest: &Manifest,
    mut extractor: Extractor<'_>,
    mut previous: Option<Previous>,
    observer: &dyn Observer,
    cancel: &AtomicBool,
) -> Result<Tally> {
    let mut tally = Tally::default();
    let (mut done, mut stopped) = (0, None);
    let total = manifest.size;
    let known = previous.as_ref().map(Previous::known).unwrap_or_default();
    let mut buffer = Vec::new();
    let mut step = |part: Part<'_>| -> Result<()> {
        go_on(cancel)?;
        match part {
            Part::Entry(entry, header) => {
                done += header.len() as u64;
                return extractor.entry(entry);
            }
            Part::Content(bytes) => {
                done += bytes.len() as u64;
                tally.written += bytes.len() as u64;
                extractor.content(bytes)?;
            }
            Part::Had(chunk) => {
                let len = u64::from(chunk.len());
                done += len;
                let found = match &mut previous {
                    Some(_) if extractor.is_kept() => {
                        tally.reused += len;
                        return Ok(());
                    }
                    Some(previous) => previous.read(&chunk, &mut buffer),
                    None => None,
                };
                tally.written += len;
                match (found, &previous) {
                    (Some(source), Some(previous)) => {
                        tally.reused += len;
                        if previous.shares() {
                            extractor.content_of(&buffer, &source.file, source.offset)?;
                        } else {
                            extractor.content(&buffer)?;
                        }
                    }
                    // Somebody changed the file since it was installed.
                    _ => extractor.content(&image.fetch(&chunk)?)?,
                }
            }
        }
        observer.event(Event::Progress { done, total });
        Ok(())
    };
    let replayed = image.replay_without(&|chunk| known.contains_key(chunk.digest()), &mut |part| {
        step(part).map_err(|error| {
            // Our own error waits outside; the store's only ends its work.
            stopped = Some(error);
            store::Error::new(store::ErrorKind::Io, "the extraction stopped")
        })
    });
    if let Some(error) = stopped {
        return Err(error);
    }
    replayed?;
    extractor.finish()?;
    Ok(tally)
}

/// Makes a finished tree durable, and refuses one that is not the image. What is read back comes from
/// memory mostly, so the disk can be busy at the same time.
pub(crate) fn settle(
    manifest: &Manifest,
    image: Option<&Image>,
    tree: &Tree,
    observer: &dyn Observer,
    cancel: &AtomicBool,
) -> Result<()> {
    observer.event(Event::Phase("checking and syncing the written tree"));
    thread::scope(|scope| {
        let synced = scope.spawn(|| rustix::fs::syncfs(&tree.root));
        recheck(manifest, image, tree, cancel)?;
        let synced = synced.join().unwrap_or(Err(Errno::IO));
        synced.map_err(|errno| match errno {
            Errno::NOSPC | Errno::DQUOT | Errno::IO => {
                Error::failed("the new tree cannot be synced")
                    .source(&errno)
                    .hint("is the disk or the thin pool full? make room and run the command again")
            }
            errno => Error::failed("the new tree cannot be synced").source(&errno),
        })
    })
}

/// Refuses a tree on disk that is not the image.
fn recheck(
    manifest: &Manifest,
    image: Option<&Image>,
    tree: &Tree,
    cancel: &AtomicBool,
) -> Result<()> {
    let found = compare::digest(tree.reopen()?, cancel);
    if found.as_ref().is_ok_and(|found| *found == manifest.image) {
        return Ok(());
    }
    go_on(cancel)?;
    let mut error = Error::refused(format!(
        "the written tree is not the image {}",
        manifest.image
    ));
    match found {
        Ok(found) => error = error.cause(format!("it is {found}")),
        Err(why) => error = error.cause(why.to_string()),
    }
    let Some(image) = image else {
        return Err(error);
    };
    let root: OwnedFd = tree.reopen()?;
    let different = compare::differences(root, image.entries()?, cancel)?;
    for one in different.iter().take(8) {
        error = error.cause(format!("{} {}", one.path, one.how.join(", ")));
    }
    if different.is_empty() {
        // The layout was followed to the letter, so it is the layout that is another image.
        error =
            error.cause("the signed layout describes another image than the signed manifest names");
    }
    Err(error)
}
