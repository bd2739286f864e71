//! Stores at the other end of a network.
//!
//! A request costs a round trip, a connection can break, and what came once should
//! not come again. So a reader says beforehand what it will need
//! ([`Backend::expect`]); neighbouring ranges become one request, several requests
//! are under way at once, and what they bring is written to a scratch file that has
//! no name and is gone with the process. Readers are served from there, as soon as
//! their bytes are in.
//!
//! The scratch file also helps with servers that know no ranges: they send the
//! whole object, which is then kept whole.
//!
//! [`Source`] is what differs from one kind of server to another.

mod plan;
mod ranges;
mod spool;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

pub(crate) use self::spool::too_short;
use self::spool::{Found, Spool};
use crate::backend::{Backend, ObjectRange, Traffic, check_key};
use crate::error::{Error, ErrorKind, Result};
use crate::pack;

/// Requests for expected content that are under way at once.
const CONNECTIONS: usize = 4;

/// The longest object that is kept whole, because its server knows no ranges.
const WHOLE_MAX: u64 = pack::PACK_MAX;

/// A kind of server.
pub(crate) trait Source: Send + Sync + 'static {
    /// A whole object of at most `limit` bytes. With `fresh`, no cache on the way
    /// may answer.
    fn whole(&self, key: &str, limit: u64, fresh: bool) -> Result<Option<Vec<u8>>>;

    /// The bytes of a range, in order, into `sink`; or the whole object of at most
    /// `limit` bytes, if the server sends nothing less.
    fn range(&self, ask: &Ask<'_>, sink: &mut dyn Sink) -> Result<()>;

    /// As [`Backend::list`].
    fn list(&self, prefix: &str) -> Result<Option<Vec<String>>>;

    /// As [`Backend::describe`].
    fn describe(&self) -> String;

    /// Where scratch files may be.
    fn scratch(&self) -> &Path;

    /// What was asked so far.
    fn traffic(&self) -> Traffic;
}

/// A range that is asked for.
pub(crate) struct Ask<'a> {
    pub(crate) key: &'a str,
    pub(crate) range: Range<u64>,
    /// The longest object that is taken in place of the range.
    pub(crate) limit: u64,
    /// No cache on the way may answer.
    pub(crate) fresh: bool,
}

impl<'a> Ask<'a> {
    fn new(key: &'a str, range: Range<u64>, fresh: bool) -> Self {
        Self {
            key,
            range,
            limit: WHOLE_MAX,
            fresh,
        }
    }
}

/// What takes the bytes of a range.
pub(crate) trait Sink {
    /// The server sends the whole object, from its first byte.
    fn whole(&mut self) -> Result<()>;

    /// The bytes from `at` on. They may come a second time.
    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()>;
}

/// A store behind a [`Source`].
pub(crate) struct Far<S: Source> {
    shared: Arc<Shared<S>>,
}

struct Shared<S> {
    source: S,
    spool: Spool,
    over: AtomicBool,
}

impl<S: Source> Far<S> {
    /// The server itself.
    pub(crate) fn source(&self) -> &S {
        &self.shared.source
    }

    pub(crate) fn new(source: S) -> Self {
        let spool = Spool::new(source.scratch());
        Self {
            shared: Arc::new(Shared {
                source,
                spool,
                over: AtomicBool::new(false),
            }),
        }
    }
}

impl<S: Source> Drop for Far<S> {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.shared.spool.abandon();
    }
}

impl<S: Source> Backend for Far<S> {
    fn get(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        check_key(key)?;
        let fresh = self.shared.spool.is_distrusted(key);
        self.shared.source.whole(key, limit, fresh)
    }

    fn get_range(&self, key: &str, offset: u64, len: u64) -> Result<Vec<u8>> {
        check_key(key)?;
        let end = offset.checked_add(len).filter(|_| len <= WHOLE_MAX);
        let end = end.ok_or_else(|| {
            let text = format!("{len} bytes of {key} from byte {offset} are too many");
            Error::new(ErrorKind::Invalid, text)
        })?;
        self.shared.get(key, &(offset..end))
    }

    fn list(&self, prefix: &str) -> Result<Option<Vec<String>>> {
        check_key(prefix.strip_suffix('/').unwrap_or(prefix))?;
        self.shared.source.list(prefix)
    }

    fn describe(&self) -> String {
        self.shared.source.describe()
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn prefetch(&self, wanted: Vec<ObjectRange>) {
        for _ in 0..self.shared.spool.plan(plan::runs(wanted), CONNECTIONS) {
            let shared = Arc::clone(&self.shared);
            let spawned = thread::Builder::new()
                .name("fetch".into())
                .spawn(move || shared.work());
            if spawned.is_err() {
                // Readers then ask for themselves.
                self.shared.spool.worker_ends();
            }
        }
    }

    fn invalidate(&self, key: &str, range: Range<u64>) -> bool {
        self.shared.spool.forget(key, &range);
        true
    }

    fn traffic(&self) -> Option<Traffic> {
        Some(self.shared.source.traffic())
    }
}

impl<S: Source> Shared<S> {
    fn get(&self, key: &str, range: &Range<u64>) -> Result<Vec<u8>> {
        loop {
            match self.spool.find(key, range, &self.source.describe())? {
                Found::Here(file) => return spool::read(&file, range),
                Found::Nowhere { fresh } => {
                    let mut sink = Direct::new(&self.spool, key, range);
                    let ask = Ask::new(key, range.clone(), fresh);
                    let fetched = self.source.range(&ask, &mut sink);
                    match (fetched, sink) {
                        // Somebody else is about to have all of it.
                        (Err(_), Direct { late: true, .. }) => {}
                        (
                            Ok(()),
                            Direct {
                                whole: Some(whole), ..
                            },
                        ) => whole.all_came(),
                        (Err(error), _) => return Err(error),
                        (Ok(()), Direct { bytes, .. }) => {
                            self.spool.keep(key, range.start, &bytes);
                            return Ok(bytes);
                        }
                    }
                }
            }
        }
    }

    /// Fetches what is planned until nothing is.
    fn work(&self) {
        while let Some((run, fresh, coming)) = self.spool.next_run() {
            let mut sink = Ahead {
                coming,
                over: &self.over,
                whole: false,
            };
            let fetched = self
                .source
                .range(&Ask::new(&run.key, run.range, fresh), &mut sink);
            let Ahead { coming, whole, .. } = sink;
            match fetched {
                Ok(()) if whole => coming.all_came(),
                Ok(()) => drop(coming),
                Err(error) => coming.has_failed(error),
            }
        }
    }
}

/// Takes what a reader waits for.
struct Direct<'a> {
    spool: &'a Spool,
    key: &'a str,
    range: &'a Range<u64>,
    bytes: Vec<u8>,
    /// Set when the whole object comes.
    whole: Option<spool::Coming<'a>>,
    /// The whole object comes, but to somebody else already.
    late: bool,
}

impl<'a> Direct<'a> {
    fn new(spool: &'a Spool, key: &'a str, range: &'a Range<u64>) -> Self {
        Self {
            spool,
            key,
            range,
            bytes: Vec::new(),
            whole: None,
            late: false,
        }
    }
}

impl Sink for Direct<'_> {
    fn whole(&mut self) -> Result<()> {
        if self.whole.is_none() {
            self.whole = self.spool.take_whole(self.key);
            self.late = self.whole.is_none();
        }
        if self.late {
            return Err(Error::new(ErrorKind::Busy, "another request brings it"));
        }
        Ok(())
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        if let Some(whole) = &self.whole {
            return whole.write(at, bytes);
        }
        // What comes a second time replaces what came first.
        self.bytes.truncate((at - self.range.start) as usize);
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

/// Takes what nobody waits for yet.
struct Ahead<'a> {
    coming: spool::Coming<'a>,
    over: &'a AtomicBool,
    whole: bool,
}

impl Sink for Ahead<'_> {
    fn whole(&mut self) -> Result<()> {
        self.whole = true;
        if self.coming.becomes_whole() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Busy, "another request brings it"))
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        if self.over.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Io, "nobody reads this any more"));
        }
        self.coming.write(at, bytes)
    }
}
