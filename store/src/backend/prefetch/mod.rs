//! Prefetching for stores at the other end of a network.
//!
//! A request costs a round trip, a connection can break, and what came once should
//! not come again. So a reader says beforehand what it will need
//! ([`Backend::prefetch`]); neighbouring ranges become one request, several requests
//! are under way at once, and what they bring is written to a scratch file that has
//! no name and is gone with the process. Readers are served from there, as soon as
//! their bytes are in.
//!
//! The scratch file also helps with servers that know no ranges: they send the
//! whole object, which is then kept whole.
//!
//! The requests themselves are made by [`ObjectClient`].

mod coalesce;
mod ranges;
mod spool;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use self::spool::{Lookup, Spool};
use crate::backend::client::{Caution, ObjectClient, RangeReceiver, RangeRequest, WHOLE_MAX};
use crate::backend::{Backend, ObjectRange, Traffic, check_key};
use crate::error::{Error, ErrorKind, Result};

/// Requests for expected content that are under way at once.
const CONNECTIONS: usize = 4;

/// A store on a server, read ahead of its reader.
pub(crate) struct Prefetch {
    shared: Arc<Shared>,
}

struct Shared {
    client: ObjectClient,
    spool: Spool,
    over: AtomicBool,
}

impl Prefetch {
    /// The client that asks the server.
    pub(crate) fn client(&self) -> &ObjectClient {
        &self.shared.client
    }

    pub(crate) fn new(client: ObjectClient) -> Self {
        let spool = Spool::new(client.scratch());
        Self {
            shared: Arc::new(Shared {
                client,
                spool,
                over: AtomicBool::new(false),
            }),
        }
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.shared.spool.abandon();
    }
}

impl Backend for Prefetch {
    fn get(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        check_key(key)?;
        let fresh = self.shared.spool.caution(key) != Caution::None;
        self.shared.client.whole(key, limit, fresh)
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
        self.shared.client.list(prefix)
    }

    fn describe(&self) -> String {
        self.shared.client.describe()
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn prefetch(&self, wanted: Vec<ObjectRange>) {
        for _ in 0..self
            .shared
            .spool
            .plan(coalesce::coalesce(wanted), CONNECTIONS)
        {
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
        self.shared.spool.forget(key, &range)
    }

    fn traffic(&self) -> Option<Traffic> {
        Some(self.shared.client.traffic())
    }
}

impl Shared {
    fn get(&self, key: &str, range: &Range<u64>) -> Result<Vec<u8>> {
        loop {
            match self.spool.find(key, range, &self.client.describe())? {
                Lookup::Here(file) => return spool::read(&file, range),
                Lookup::Nowhere(caution) => {
                    let mut receiver = Direct::new(&self.spool, key, range);
                    let ask = RangeRequest::new(key, range.clone(), caution);
                    let fetched = self.client.range(&ask, &mut receiver);
                    match (fetched, receiver) {
                        // Somebody else is about to have all of it.
                        (Err(_), Direct { late: true, .. }) => {}
                        (
                            Ok(()),
                            Direct {
                                whole: Some(whole), ..
                            },
                        ) => whole.completed(),
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
        while let Some((run, caution, coming)) = self.spool.next_run() {
            let mut receiver = Ahead {
                coming,
                over: &self.over,
                whole: false,
            };
            let fetched = self.client.range(
                &RangeRequest::new(&run.key, run.range, caution),
                &mut receiver,
            );
            let Ahead { coming, whole, .. } = receiver;
            match fetched {
                Ok(()) if whole => coming.completed(),
                Ok(()) => drop(coming),
                Err(error) => coming.failed(error),
            }
        }
    }
}

/// The receiver of a range that a reader waits for.
struct Direct<'a> {
    spool: &'a Spool,
    key: &'a str,
    range: &'a Range<u64>,
    bytes: Vec<u8>,
    /// Set when the whole object comes.
    whole: Option<spool::Incoming<'a>>,
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

impl RangeReceiver for Direct<'_> {
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

/// The receiver of a range that was only announced.
struct Ahead<'a> {
    coming: spool::Incoming<'a>,
    over: &'a AtomicBool,
    whole: bool,
}

impl RangeReceiver for Ahead<'_> {
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
