//! The last step before a tree becomes a generation: it is synced and read back.

use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::thread;

use rustix::io::Errno;
use store::Image;
use store::manifest::Manifest;

use crate::error::{Error, Result, check_cancelled};
use crate::event::{Event, Observer};
use crate::tree::compare;
use crate::tree::open::OpenTree;

/// Makes a finished tree durable, and refuses one that is not the image. What is read back comes from
/// memory mostly, so the disk can be busy at the same time.
pub(super) fn settle(
    manifest: &Manifest,
    image: Option<&Image>,
    tree: &OpenTree,
    observer: &dyn Observer,
    cancel: &AtomicBool,
) -> Result<()> {
    observer.event(Event::Phase("checking and syncing the written tree"));
    thread::scope(|scope| {
        let synced = scope.spawn(|| rustix::fs::syncfs(&tree.root));
        check(manifest, image, tree, cancel)?;
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
fn check(
    manifest: &Manifest,
    image: Option<&Image>,
    tree: &OpenTree,
    cancel: &AtomicBool,
) -> Result<()> {
    let found = compare::digest(tree.reopen()?, cancel);
    if found.as_ref().is_ok_and(|found| *found == manifest.image) {
        return Ok(());
    }
    check_cancelled(cancel)?;
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
