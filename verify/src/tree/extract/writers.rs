//! Small files, written by several threads.
//!
//! To make a file takes the kernel longer than to fill it, and files do not depend on each other.
//! So their content is gathered, and whole batches of files go to the threads. A batch has the
//! directories of its files open; its files are made, filled and finished there, exactly as one by
//! one. What goes wrong is said when the next batch is handed over, at the latest at the end.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::fs::{Mode, OFlags, openat};
use store::canonical_tar::Entry;

use super::error::{create_error, hostile, io_error, set_error};
use super::file::{Open, finish_open};
use crate::error::{Error, Result};
use crate::tree::openat::split;

/// The longest file that is gathered, and bytes and files that are a batch.
pub(super) const SMALL: u64 = 256 << 10;
const BATCH: usize = 1 << 20;
const FILES: usize = 128;

/// Directories of one batch: what is open at once is limited.
const DIRECTORIES: usize = 16;

/// More threads than this would only wait for each other in the file system.
const THREADS: usize = 4;

/// Files that are to be written.
#[derive(Default)]
struct Batch {
    files: Vec<(Arc<OwnedFd>, Entry)>,
    /// Their contents, one after the other.
    content: Vec<u8>,
    /// How often a file is in another directory than the one before.
    directories: usize,
}

/// Gathers files and has them written.
#[derive(Default)]
pub(super) struct Writers {
    batch: Batch,
    directory: Option<(Vec<u8>, Arc<OwnedFd>)>,
    pool: Option<Pool>,
}

struct Pool {
    /// There until no more work comes.
    work: Option<SyncSender<Batch>>,
    done: Receiver<Batch>,
    failed: Arc<Mutex<Option<Error>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Appends to the content of the file that is added next.
    pub(super) fn content(&mut self, bytes: &[u8]) {
        self.batch.content.extend_from_slice(bytes);
    }

    /// Adds the file whose content was appended; `open` opens directories of entries.
    pub(super) fn add(
        &mut self,
        entry: Entry,
        open: &mut dyn FnMut(&Entry, &[u8]) -> Result<OwnedFd>,
    ) -> Result<()> {
        let (directory, _) = split(&entry.path).unwrap_or_default();
        let parent = match &self.directory {
            Some((path, parent)) if path == directory => Arc::clone(parent),
            _ => {
                let parent = Arc::new(open(&entry, directory)?);
                self.directory = Some((directory.to_vec(), Arc::clone(&parent)));
                self.batch.directories += 1;
                parent
            }
        };
        self.batch.files.push((parent, entry));
        let Batch {
            files,
            content,
            directories,
        } = &self.batch;
        if content.len() < BATCH && files.len() < FILES && *directories < DIRECTORIES {
            return Ok(());
        }
        self.hand_over()
    }

    fn hand_over(&mut self) -> Result<()> {
        let pool = self.pool.get_or_insert_with(Pool::start);
        pool.check()?;
        let empty = pool.done.try_recv().unwrap_or_default();
        pool.send(std::mem::replace(&mut self.batch, empty))
    }

    /// Waits until everything is written. Files may be added again after that.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.directory = None;
        match self.pool.take() {
            None => write_all(&mut self.batch),
            Some(mut pool) => {
                let sent = pool.send(std::mem::take(&mut self.batch));
                pool.end().and(sent)
            }
        }
    }
}

impl Pool {
    fn start() -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.min(THREADS);
        let (work, batches) = sync_channel(threads);
        // As many as can be under way: nobody waits to give one back.
        let (give_back, done) = sync_channel(2 * threads + 1);
        let batches = Arc::new(Mutex::new(batches));
        let failed = Arc::new(Mutex::new(None));
        let threads = (0..threads).map(|_| {
            let (batches, give_back) = (Arc::clone(&batches), give_back.clone());
            let failed = Arc::clone(&failed);
            thread::spawn(move || write(&batches, &give_back, &failed))
        });
        Self {
            work: Some(work),
            done,
            threads: threads.collect(),
            failed,
        }
    }

    fn check(&self) -> Result<()> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.take().map_or(Ok(()), Err)
    }

    fn send(&self, batch: Batch) -> Result<()> {
        let sent = self.work.as_ref().map(|work| work.send(batch));
        sent.and_then(Result::ok).ok_or_else(died)
    }

    fn end(&mut self) -> Result<()> {
        self.work = None;
        let mut ended = Ok(());
        for thread in self.threads.drain(..) {
            ended = ended.and(thread.join().map_err(|_| died()));
        }
        self.check().and(ended)
    }
}

impl Drop for Pool {
    /// Waits for the threads: who gave up is about to remove what they write.
    fn drop(&mut self) {
        let _ = self.end();
    }
}

fn died() -> Error {
    Error::failed("a thread that writes files has died")
}

/// Writes batches until there are no more; none after one that failed.
fn write(
    batches: &Mutex<Receiver<Batch>>,
    give_back: &SyncSender<Batch>,
    failed: &Mutex<Option<Error>>,
) {
    loop {
        // A let of its own, so that the lock is not held while writing.
        let batch = batches
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        let Ok(mut batch) = batch else {
            return;
        };
        let lock = || failed.lock().unwrap_or_else(PoisonError::into_inner);
        if lock().is_some() {
            continue;
        }
        match write_all(&mut batch) {
            Ok(()) => drop(give_back.try_send(batch)),
            Err(error) => drop(lock().get_or_insert(error)),
        }
    }
}

/// Writes the files of a batch, which is empty then.
fn write_all(batch: &mut Batch) -> Result<()> {
    let mut rest = &batch.content[..];
    let mut written = Ok(());
    for (parent, entry) in batch.files.drain(..) {
        let (content, behind) = rest.split_at(entry.size() as usize);
        rest = behind;
        written = written.and_then(|()| write_one(&parent, entry, content));
    }
    batch.content.clear();
    batch.directories = 0;
    written
}

fn write_one(parent: &OwnedFd, entry: Entry, content: &[u8]) -> Result<()> {
    let mut open = create(parent, entry)?;
    let ended = open.write(content).and_then(|()| open.end());
    ended.map_err(|error| io_error(&open.entry, &error))?;
    finish_open(&open.file, &open.entry).map_err(|errno| set_error(&open.entry, errno))
}

/// Makes the file of an entry in its directory.
pub(super) fn create(parent: impl AsFd, entry: Entry) -> Result<Open> {
    let Some((_, name)) = split(&entry.path) else {
        return Err(hostile(&entry, "its name is not a name"));
    };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(parent, name, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|errno| create_error(&entry, errno))?;
    Ok(Open {
        missing: entry.size(),
        entry,
        file: file.into(),
        shared: None,
        ends_in_hole: false,
    })
}
