//! A bucket as a [`WritableBackend`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use reqwest::{Method, StatusCode};

use super::bucket::{self, Call};
use super::client::{BucketClient, FoundObject};
use super::error;
use super::lease::{self, Lease, LeaseRecord, LeaseRenewer};
use super::upload::{WHOLE, piece};
use super::url::BucketUrl;
use crate::backend::MARKER;
use crate::backend::client::{ClientOptions, ObjectClient, RequestError};
use crate::backend::prefetch::Prefetch;
use crate::backend::{Backend, ObjectRange, Traffic, check_key, is_key};
use crate::backend::{
    ETag, Guard, ListableBackend, ObjectMeta, ObjectWriter, WritableBackend, Writers,
};
use crate::error::{Error, ErrorKind, Result};

/// Folder of what is damaged, as a prefix of keys.
const QUARANTINE: &str = "quarantine/";

/// Folder of leases, as a prefix of keys.
const LEASES: &str = "tmp/";

/// Folder of locks, as a prefix of keys.
const LOCKS: &str = "locks/";

/// The lock behind which a collector removes.
const GATE: &str = "locks/gate";

/// With more keys than this of one folder, listing it takes fewer requests than
/// looking for each.
const LOOKED_FOR: usize = 3;

/// The longest wait between two looks at a lock that somebody else has.
const LOOK: Duration = Duration::from_secs(2);

/// A bucket, open for writing.
pub(crate) struct S3Backend {
    client: Arc<BucketClient>,
    renewer: Arc<LeaseRenewer>,
    lease: Mutex<Option<Arc<Lease>>>,
    lifetime: Duration,
    gates: Arc<AtomicUsize>,
}

impl S3Backend {
    /// Begins to write below a prefix. Somebody else's objects are refused.
    pub(crate) fn open(location: &BucketUrl, access: &ClientOptions) -> Result<Arc<Self>> {
        let (client, bucket) = bucket::prepare(location, access)?;
        let server = ObjectClient::new(client, Box::new(bucket.clone()), access);
        let client = Arc::new(BucketClient {
            prefetch: Prefetch::new(server),
            bucket,
            scratch: access.scratch.clone(),
            patience: access.patience,
            checked: Mutex::default(),
        });
        if client.prefetch.get(MARKER, 64)?.is_none() {
            let found = client.bucket.list(client.server(), "", false, 200)?;
            let ours = |key: &str| key.starts_with(LOCKS) || key.starts_with(LEASES);
            let foreign = found
                .iter()
                .find(|object| object.key != MARKER && !ours(&object.key));
            // Another process may have made the store since.
            if let Some(object) = foreign
                && client.prefetch.get(MARKER, 64)?.is_none()
            {
                return Err(Error::new(
                    ErrorKind::Foreign,
                    format!(
                        "{location} is not a store, and it is not empty: it has `{}`",
                        object.key.escape_default()
                    ),
                )
                .with_hint("name a prefix of the bucket that is empty or already a store"));
            }
        }
        Ok(Arc::new(Self {
            renewer: LeaseRenewer::new(Arc::clone(&client), access.lease),
            client,
            lease: Mutex::default(),
            lifetime: access.lease,
            gates: Arc::default(),
        }))
    }

    /// Tries what a store needs of the bucket.
    pub(crate) fn probe(&self) -> Result<Vec<super::ProbeCheck>> {
        self.client.probe()
    }

    /// Whether somebody has the lock that `seen` is.
    fn is_taken(&self, seen: &FoundObject) -> bool {
        !LeaseRecord::parse(&seen.bytes).owner.is_empty() && !self.is_late(seen)
    }

    fn is_late(&self, seen: &FoundObject) -> bool {
        seen.age > self.lifetime.as_secs()
    }

    /// Takes a lock if nobody has it.
    fn take(&self, key: &str) -> Result<Option<Arc<Lease>>> {
        self.client.check_conditions()?;
        let seen = self.client.look(key, lease::MAX_BYTES)?;
        if seen.as_ref().is_some_and(|seen| self.is_taken(seen)) {
            return Ok(None);
        }
        let version = seen.map(|seen| seen.version);
        self.renewer
            .take(key, std::collections::BTreeSet::new(), version.as_ref())
    }

    fn guard(&self, kept: Arc<Lease>, after: OnRelease) -> Guard {
        Box::new(LockGuard {
            client: Arc::clone(&self.client),
            renewer: Arc::clone(&self.renewer),
            kept,
            after,
        })
    }

    fn wait<T>(&self, mut attempt: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let mut pause = Duration::from_millis(50);
        loop {
            if let Some(done) = attempt()? {
                return Ok(done);
            }
            // Between half and all of it, so that those who wait do not come at once.
            let share = 0.5 + f64::from(lease::random() as u16) / 131_072.0;
            thread::sleep(pause.mul_f64(share));
            pause = (pause * 2).min(LOOK).min(self.lifetime / 4);
        }
    }

    /// The lock's living sharers.
    fn sharers(&self, name: &str) -> Result<bool> {
        let folder = format!("{LOCKS}{name}.shared/");
        for object in self.list_all(&folder)? {
            match self.client.look(&object.key, lease::MAX_BYTES)? {
                Some(seen) if self.is_taken(&seen) => return Ok(true),
                Some(_) => self.client.delete(&object.key)?,
                None => {}
            }
        }
        Ok(false)
    }

    /// Which of the keys are there.
    fn present(&self, keys: &[String]) -> Result<Vec<bool>> {
        let folder = |key: &String| key.rfind('/').map_or("", |end| &key[..=end]).to_owned();
        let mut folders: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (number, key) in keys.iter().enumerate() {
            folders.entry(folder(key)).or_default().push(number);
        }
        let mut present = vec![false; keys.len()];
        for (folder, numbers) in folders {
            if numbers.len() > LOOKED_FOR && !folder.is_empty() {
                let listed =
                    self.client
                        .bucket
                        .list(self.client.server(), &folder, true, usize::MAX)?;
                let there: std::collections::HashSet<String> =
                    listed.into_iter().map(|object| object.key).collect();
                for number in numbers {
                    present[number] = there.contains(&keys[number]);
                }
            } else {
                for number in numbers {
                    present[number] = self.client.size(&keys[number])?.is_some();
                }
            }
        }
        Ok(present)
    }
}

/// What becomes of a lock's object.
enum OnRelease {
    Freed,
    Removed,
    Gate(Arc<AtomicUsize>),
}

struct LockGuard {
    client: Arc<BucketClient>,
    renewer: Arc<LeaseRenewer>,
    kept: Arc<Lease>,
    after: OnRelease,
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        match &self.after {
            OnRelease::Freed => self.renewer.free(&self.kept),
            OnRelease::Gate(gates) => {
                gates.fetch_sub(1, Ordering::SeqCst);
                self.renewer.free(&self.kept);
            }
            // Its name is nobody else's.
            OnRelease::Removed => drop(self.client.delete(self.kept.key())),
        }
    }
}

impl Backend for S3Backend {
    fn get(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        self.client.prefetch.get(key, limit)
    }

    fn get_range(&self, key: &str, offset: u64, len: u64) -> Result<Vec<u8>> {
        self.client.prefetch.get_range(key, offset, len)
    }

    fn list(&self, prefix: &str) -> Result<Option<Vec<String>>> {
        self.client.prefetch.list(prefix)
    }

    fn describe(&self) -> String {
        self.client.describe()
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn prefetch(&self, wanted: Vec<ObjectRange>) {
        self.client.prefetch.prefetch(wanted);
    }

    fn invalidate(&self, key: &str, range: Range<u64>) -> bool {
        self.client.prefetch.invalidate(key, range)
    }

    fn traffic(&self) -> Option<Traffic> {
        self.client.prefetch.traffic()
    }
}

impl ListableBackend for S3Backend {
    fn list_all(&self, prefix: &str) -> Result<Vec<ObjectMeta>> {
        check_key(prefix.strip_suffix('/').unwrap_or(prefix))?;
        let listed = self
            .client
            .bucket
            .list(self.client.server(), prefix, false, usize::MAX)?;
        let mut objects: Vec<ObjectMeta> = listed
            .into_iter()
            .filter(|object| is_key(&object.key))
            .map(|object| {
                let time = object.last_modified.unwrap_or_default();
                let time: Option<jiff::Timestamp> = time.parse().ok();
                let time = time.and_then(|time| u64::try_from(time.as_second()).ok());
                let tag = object.etag.unwrap_or_default();
                ObjectMeta {
                    key: object.key,
                    size: object.size.unwrap_or(0),
                    // A time that makes no sense is the youngest: nothing goes for it.
                    modified: time.unwrap_or(u64::MAX),
                    version: ETag(tag.trim_matches('"').to_owned()),
                }
            })
            .collect();
        objects.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    fn seal(&self, object: &ObjectMeta) -> Option<String> {
        let tag = &object.version.0;
        (!tag.is_empty()).then(|| format!("{}-{tag}", object.size))
    }

    fn now(&self) -> Result<u64> {
        self.client.head(MARKER)?.1.ok_or_else(|| {
            let text = format!("{} does not say what time it is", self.describe());
            Error::new(ErrorKind::Io, text)
        })
    }

    fn try_share(&self, name: &str) -> Result<Option<Guard>> {
        check_key(name)?;
        let key = format!("{LOCKS}{name}.shared/{:016x}", lease::random());
        let none = std::collections::BTreeSet::new();
        let checked = self.client.check_conditions();
        let shared = match checked.and_then(|()| self.renewer.take(&key, none, None)) {
            Ok(shared) => shared.map(|kept| self.guard(kept, OnRelease::Removed)),
            // Who may not write can only look.
            Err(error) if error.kind() == ErrorKind::ReadOnly => Some(Box::new(()) as Guard),
            Err(error) => return Err(error),
        };
        let alone = self
            .client
            .look(&format!("{LOCKS}{name}"), lease::MAX_BYTES)?;
        Ok(shared.filter(|_| !alone.is_some_and(|seen| self.is_taken(&seen))))
    }

    fn writers(&self) -> Result<Writers> {
        let mut writers = Writers::default();
        for object in self.list_all(LEASES)? {
            let Some(seen) = self.client.look(&object.key, lease::MAX_BYTES)? else {
                continue;
            };
            if self.is_late(&seen) {
                // Without the gate this is only an estimate. With it, the lease ends
                // here and now, or it was renewed just so.
                if self.gates.load(Ordering::SeqCst) == 0 {
                    continue;
                }
                let void = LeaseRecord::free().to_json();
                if self
                    .client
                    .swap(&object.key, &void, Some(&seen.version))?
                    .is_some()
                {
                    self.client.delete(&object.key)?;
                    continue;
                }
                // Renewed, or voided by somebody else: looked at once more.
                match self.client.look(&object.key, lease::MAX_BYTES)? {
                    Some(seen) if !LeaseRecord::parse(&seen.bytes).owner.is_empty() => {
                        writers.alive += 1;
                        writers.held.extend(LeaseRecord::parse(&seen.bytes).held);
                    }
                    _ => {}
                }
                continue;
            }
            writers.alive += 1;
            writers.held.extend(LeaseRecord::parse(&seen.bytes).held);
        }
        Ok(writers)
    }
}

impl WritableBackend for S3Backend {
    fn put(&self, key: &str, bytes: &[u8]) -> Result<()> {
        check_key(key)?;
        self.check()?;
        self.client.put(key, bytes)
    }

    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<bool> {
        check_key(key)?;
        self.check()?;
        Ok(self.client.swap(key, bytes, None)?.is_some())
    }

    fn get_versioned(&self, key: &str, limit: u64) -> Result<Option<(Vec<u8>, ETag)>> {
        check_key(key)?;
        let seen = self.client.look(key, limit)?;
        Ok(seen.map(|seen| (seen.bytes, seen.version)))
    }

    fn replace(&self, key: &str, bytes: &[u8], seen: &ETag) -> Result<bool> {
        check_key(key)?;
        self.check()?;
        Ok(self.client.swap(key, bytes, Some(seen))?.is_some())
    }

    fn create(&self) -> Result<Box<dyn ObjectWriter + '_>> {
        Ok(Box::new(S3ObjectWriter::new(self)?))
    }

    /// Whatever was answered is durable.
    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn remove(&self, key: &str) -> Result<()> {
        check_key(key)?;
        self.check()?;
        self.client.delete(key)
    }

    fn quarantine(&self, key: &str) -> Result<()> {
        check_key(key)?;
        self.check()?;
        let shown = self.describe();
        let to = format!("{QUARANTINE}{key}");
        let mut call = Call::new(Method::PUT, &to);
        let source = self.client.bucket.source(key);
        call.headers.push(("x-amz-copy-source", source));
        self.client
            .send(&format!("copy {key}"), &call, &[], &mut |response, _| {
                if response.status() != StatusCode::OK {
                    return Err(error::of(&shown, true, response));
                }
                // The answer begins before the copy is made (CopyObject).
                let text = bucket::read(response)?;
                match error::element(&text, "Code") {
                    Some(_) => Err(RequestError::transient("the server could not copy it")),
                    None => Ok(()),
                }
            })?;
        self.client.delete(key)
    }

    fn hold(&self, keys: &[String]) -> Result<Vec<bool>> {
        for key in keys {
            check_key(key)?;
        }
        self.client.check_conditions()?;
        {
            let mut lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
            let new = keys.iter().filter(|key| {
                let held = lease.as_ref().map(|lease| lease.holds(key));
                !held.unwrap_or(false)
            });
            let new: Vec<String> = new.cloned().collect();
            if !new.is_empty() {
                if let Some(kept) = &*lease {
                    self.renewer.renew(kept, &new)?;
                } else {
                    let key = format!("{LEASES}{:016x}.json", lease::random());
                    let kept = self.renewer.take(&key, new.into_iter().collect(), None)?;
                    *lease = Some(kept.ok_or_else(|| {
                        Error::new(ErrorKind::Busy, "another writer has the same number")
                    })?);
                }
                // After the lease says it: either the collector sees that, or its
                // gate is seen here.
                self.wait(|| {
                    let gate = self.client.look(GATE, lease::MAX_BYTES)?;
                    match gate {
                        Some(seen) if self.is_taken(&seen) => Ok(None),
                        // A collector that died: from now on it learns that it did.
                        Some(seen) if !LeaseRecord::parse(&seen.bytes).owner.is_empty() => {
                            let free = LeaseRecord::free().to_json();
                            let freed = self.client.swap(GATE, &free, Some(&seen.version))?;
                            Ok(freed.map(|_| ()))
                        }
                        _ => Ok(Some(())),
                    }
                })?;
            }
        }
        self.present(keys)
    }

    fn check_lease(&self) -> Result<()> {
        let lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        match &*lease {
            Some(kept) => self.renewer.renew(kept, &[]),
            None => Ok(()),
        }
    }

    fn withdraw(&self, key: &str) -> Result<()> {
        check_key(key)?;
        self.client.delete(key)
    }

    fn remove_leftovers(&self, older: u64) -> Result<()> {
        let now = self.now()?;
        let unfinished = self.client.unfinished()?;
        if unfinished.is_empty() {
            return Ok(());
        }
        let held = self.writers()?.held;
        for upload in unfinished {
            if upload.began.saturating_add(older) <= now && !held.contains(&upload.key) {
                self.client.abort(&upload.key, &upload.id)?;
            }
        }
        Ok(())
    }

    fn scratch(&self) -> Result<File> {
        self.client.scratch()
    }

    fn gate(&self) -> Result<Guard> {
        let kept = self.wait(|| self.take(GATE))?;
        self.gates.fetch_add(1, Ordering::SeqCst);
        Ok(self.guard(kept, OnRelease::Gate(Arc::clone(&self.gates))))
    }

    fn lock(&self, name: &str) -> Result<Guard> {
        self.wait(|| self.try_lock(name))
    }

    fn try_lock(&self, name: &str) -> Result<Option<Guard>> {
        check_key(name)?;
        let Some(kept) = self.take(&format!("{LOCKS}{name}"))? else {
            return Ok(None);
        };
        let guard = self.guard(kept, OnRelease::Freed);
        // After the lock says it: either the sharer sees that, or is seen here.
        Ok((!self.sharers(name)?).then_some(guard))
    }
}

impl S3Backend {
    /// Refuses to write where conditions are ignored, and when others may have taken this
    /// writer for dead.
    pub(super) fn check(&self) -> Result<()> {
        self.client.check_conditions()?;
        self.renewer.check()
    }
}

impl Drop for S3Backend {
    fn drop(&mut self) {
        let lease = self
            .lease
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(kept) = lease {
            // Its name is nobody else's; what stays is void when its time is over.
            let _ = self.client.delete(kept.key());
        }
    }
}

/// An object that is gathered in a scratch file, then sent, in parts where that is
/// quicker.
struct S3ObjectWriter<'a> {
    backend: &'a S3Backend,
    file: File,
    size: u64,
}

impl<'a> S3ObjectWriter<'a> {
    fn new(backend: &'a S3Backend) -> Result<Self> {
        Ok(Self {
            backend,
            file: backend.client.scratch()?,
            size: 0,
        })
    }
}

impl ObjectWriter for S3ObjectWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.size += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|error| {
            Error::io("write", "a scratch file", error)
                .with_hint("TMPDIR names a directory with room for the packs of an image")
        })
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>, key: &str) -> Result<()> {
        check_key(key)?;
        self.backend.check()?;
        let client = &*self.backend.client;
        if self.size <= WHOLE {
            return client.put(key, &piece(&self.file, 0, self.size)?);
        }
        let id = client.begin(key)?;
        let sent = client.parts(key, &id, &self.file, self.size);
        let done = sent.and_then(|tags| {
            self.backend.check()?;
            client.complete(key, &id, &tags, self.size)
        });
        if done.is_err() {
            // What is left costs money until a collector finds it.
            let _ = client.abort(key, &id);
        }
        done
    }
}
