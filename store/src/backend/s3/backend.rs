//! A bucket as a [`WritableBackend`] place.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use base64ct::{Base64, Encoding};
use md5::{Digest as _, Md5};
use reqwest::blocking::Response;
use reqwest::{Method, StatusCode, header};

use super::bucket::{self, Bucket, Call};
use super::error;
use super::lease::{self, Lease, LeaseRecord, LeaseRenewer};
use super::upload::S3ObjectWriter;
use super::url::BucketUrl;
use crate::backend::MARKER;
use crate::backend::client::{ClientOptions, Endpoint, ObjectClient, RequestError};
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

/// The slowest upload that is waited for, in bytes a second.
const UPLOAD: u64 = 32 << 10;

/// With more keys than this of one folder, listing it takes fewer requests than
/// looking for each.
const LOOKED_FOR: usize = 3;

/// The longest wait between two looks at a lock that somebody else has.
const LOOK: Duration = Duration::from_secs(2);

/// What a bucket can do, with nothing that makes it safe.
pub(super) struct BucketClient {
    prefetch: Prefetch,
    pub(super) bucket: Bucket,
    scratch: PathBuf,
    patience: Duration,
}

/// An object as it was found.
struct FoundObject {
    bytes: Vec<u8>,
    /// There are more bytes than were wanted.
    longer: bool,
    version: ETag,
    /// Seconds since it was written, by the server's clock.
    age: u64,
}

/// A bucket, open for writing.
pub(crate) struct S3Backend {
    pub(super) bare: Arc<BucketClient>,
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
        let bare = Arc::new(BucketClient {
            prefetch: Prefetch::new(server),
            bucket,
            scratch: access.scratch.clone(),
            patience: access.patience,
        });
        if bare.prefetch.get(MARKER, 64)?.is_none() {
            let found = bare.bucket.list(bare.server(), "", false, 200)?;
            let ours = |key: &str| key.starts_with(LOCKS) || key.starts_with(LEASES);
            let foreign = found
                .iter()
                .find(|object| object.key != MARKER && !ours(&object.key));
            // Another process may have made the store since.
            if let Some(object) = foreign
                && bare.prefetch.get(MARKER, 64)?.is_none()
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
            renewer: LeaseRenewer::new(Arc::clone(&bare), access.lease),
            bare,
            lease: Mutex::default(),
            lifetime: access.lease,
            gates: Arc::default(),
        }))
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
        let seen = self.bare.look(key, lease::MAX_BYTES)?;
        if seen.as_ref().is_some_and(|seen| self.is_taken(seen)) {
            return Ok(None);
        }
        let version = seen.map(|seen| seen.version);
        self.renewer
            .take(key, std::collections::BTreeSet::new(), version.as_ref())
    }

    fn guard(&self, kept: Arc<Lease>, after: OnRelease) -> Guard {
        Box::new(LockGuard {
            client: Arc::clone(&self.bare),
            keeper: Arc::clone(&self.renewer),
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
            match self.bare.look(&object.key, lease::MAX_BYTES)? {
                Some(seen) if self.is_taken(&seen) => return Ok(true),
                Some(_) => self.bare.delete(&object.key)?,
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
                    self.bare
                        .bucket
                        .list(self.bare.server(), &folder, true, usize::MAX)?;
                let there: std::collections::HashSet<String> =
                    listed.into_iter().map(|object| object.key).collect();
                for number in numbers {
                    present[number] = there.contains(&keys[number]);
                }
            } else {
                for number in numbers {
                    present[number] = self.bare.size(&keys[number])?.is_some();
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
    keeper: Arc<LeaseRenewer>,
    kept: Arc<Lease>,
    after: OnRelease,
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        match &self.after {
            OnRelease::Freed => self.keeper.free(&self.kept),
            OnRelease::Gate(gates) => {
                gates.fetch_sub(1, Ordering::SeqCst);
                self.keeper.free(&self.kept);
            }
            // Its name is nobody else's.
            OnRelease::Removed => drop(self.client.delete(self.kept.key())),
        }
    }
}

impl BucketClient {
    fn server(&self) -> &ObjectClient {
        self.prefetch.client()
    }

    pub(super) fn describe(&self) -> String {
        self.bucket.describe()
    }

    pub(super) fn scratch(&self) -> Result<File> {
        tempfile::tempfile_in(&self.scratch).map_err(|error| {
            Error::io("make a scratch file below", &self.scratch, error)
                .with_hint("TMPDIR names a directory for it")
        })
    }

    /// Sends bytes; `judge` sees what the server says.
    pub(super) fn send<T>(
        &self,
        what: &str,
        call: &Call<'_>,
        bytes: &[u8],
        judge: &mut dyn FnMut(Response, u32) -> Result<T, RequestError>,
    ) -> Result<T> {
        let slow = Duration::from_secs(bytes.len() as u64 / UPLOAD);
        let what = format!("{what} in {}", self.describe());
        let ask = |client: &_| {
            let request = self.bucket.request(client, call);
            let request = request.timeout(self.patience + slow);
            Ok(match call.method {
                Method::PUT | Method::POST => request.body(bytes.to_vec()),
                _ => request,
            })
        };
        self.server().exchange(&what, &ask, judge)
    }

    /// A call that puts bytes, which the server compares with their MD5.
    pub(super) fn putting<'a>(key: &'a str, bytes: &[u8]) -> Call<'a> {
        let mut call = Call::new(Method::PUT, key);
        let digest = Base64::encode_string(&Md5::digest(bytes));
        call.headers.push(("content-md5", digest));
        call
    }

    pub(super) fn put(&self, key: &str, bytes: &[u8]) -> Result<()> {
        let place = self.describe();
        self.send(
            &format!("write {key}"),
            &Self::putting(key, bytes),
            bytes,
            &mut |response, _| match response.status() {
                StatusCode::OK => Ok(()),
                _ => Err(error::of(&place, true, response)),
            },
        )
    }

    /// Puts bytes where `seen` is, or nothing; their version, or `None` if something
    /// else is there.
    pub(super) fn swap(
        &self,
        key: &str,
        bytes: &[u8],
        seen: Option<&ETag>,
    ) -> Result<Option<ETag>> {
        let mut call = Self::putting(key, bytes);
        call.headers.push(match seen {
            Some(ETag(tag)) => ("if-match", format!("\"{tag}\"")),
            None => ("if-none-match", "*".to_owned()),
        });
        let place = self.describe();
        let mut doubt = false;
        let swapped = self.send(
            &format!("write {key}"),
            &call,
            bytes,
            &mut |response, failed| match response.status() {
                StatusCode::OK => version(&response)
                    .map(Some)
                    .ok_or_else(|| RequestError::permanent("the server names no version of it")),
                StatusCode::PRECONDITION_FAILED => {
                    doubt = failed > 0;
                    Ok(None)
                }
                StatusCode::NOT_FOUND => {
                    doubt = failed > 0;
                    error::no_bucket(&place, response).map_or(Ok(None), Err)
                }
                _ => Err(error::of(&place, true, response)),
            },
        )?;
        if swapped.is_some() || !doubt {
            return Ok(swapped);
        }
        // An attempt whose answer was lost may have been the one that is there.
        let there = self.glance(key, bytes.len() as u64)?;
        let ours = there.filter(|there| !there.longer && there.bytes == bytes);
        Ok(ours.map(|there| there.version))
    }

    /// An object of at most `limit` bytes, its version and its age.
    fn look(&self, key: &str, limit: u64) -> Result<Option<FoundObject>> {
        let seen = self.glance(key, limit)?;
        if seen.as_ref().is_some_and(|seen| seen.longer) {
            return Err(Error::corrupt(
                format_args!("{key} in {}", self.describe()),
                format_args!("it is longer than {limit} bytes"),
            ));
        }
        Ok(seen)
    }

    /// As much of an object as `limit` bytes and one, its version and its age.
    fn glance(&self, key: &str, limit: u64) -> Result<Option<FoundObject>> {
        let place = self.describe();
        let mut call = Call::new(Method::GET, key);
        call.headers.push(("cache-control", "no-cache".to_owned()));
        self.send(
            &format!("fetch {key}"),
            &call,
            &[],
            &mut |response, _| match response.status() {
                StatusCode::OK => {
                    let version = version(&response).ok_or_else(|| {
                        RequestError::permanent("the server names no version of it")
                    })?;
                    let now = error::date(&response, header::DATE);
                    let then = error::date(&response, header::LAST_MODIFIED);
                    let age = now
                        .zip(then)
                        .map_or(0, |(now, then)| now.saturating_sub(then));
                    let length = response.content_length();
                    let mut bytes = Vec::new();
                    response
                        .take(limit.saturating_add(1))
                        .read_to_end(&mut bytes)
                        .map_err(|error| RequestError::of_body(&error))?;
                    let longer = bytes.len() as u64 > limit;
                    if !longer && length.is_some_and(|length| length != bytes.len() as u64) {
                        return Err(RequestError::transient("the connection broke"));
                    }
                    Ok(Some(FoundObject {
                        bytes,
                        longer,
                        version,
                        age,
                    }))
                }
                StatusCode::NOT_FOUND => error::no_bucket(&place, response).map_or(Ok(None), Err),
                _ => Err(error::of(&place, false, response)),
            },
        )
    }

    /// The bytes of an object, if there is one; and the server's time.
    fn head(&self, key: &str) -> Result<(Option<u64>, Option<u64>)> {
        let place = self.describe();
        let call = Call::new(Method::HEAD, key);
        self.send(
            &format!("look for {key}"),
            &call,
            &[],
            &mut |response, _| {
                let now = error::date(&response, header::DATE);
                match response.status() {
                    StatusCode::OK => {
                        let length = response.headers().get(header::CONTENT_LENGTH);
                        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
                        Ok((Some(length.unwrap_or(0)), now))
                    }
                    StatusCode::NOT_FOUND => Ok((None, now)),
                    _ => Err(error::of(&place, false, response)),
                }
            },
        )
    }

    pub(super) fn size(&self, key: &str) -> Result<Option<u64>> {
        Ok(self.head(key)?.0)
    }

    fn delete(&self, key: &str) -> Result<()> {
        let place = self.describe();
        let call = Call::new(Method::DELETE, key);
        self.send(
            &format!("remove {key}"),
            &call,
            &[],
            &mut |response, _| match response.status() {
                StatusCode::OK | StatusCode::NO_CONTENT | StatusCode::NOT_FOUND => Ok(()),
                _ => Err(error::of(&place, true, response)),
            },
        )
    }
}

/// The entity tag, without its quotes.
pub(super) fn version(response: &Response) -> Option<ETag> {
    let tag = response.headers().get(header::ETAG)?.to_str().ok()?;
    Some(ETag(tag.trim_matches('"').to_owned()))
}

impl Backend for S3Backend {
    fn get(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        self.bare.prefetch.get(key, limit)
    }

    fn get_range(&self, key: &str, offset: u64, len: u64) -> Result<Vec<u8>> {
        self.bare.prefetch.get_range(key, offset, len)
    }

    fn list(&self, prefix: &str) -> Result<Option<Vec<String>>> {
        self.bare.prefetch.list(prefix)
    }

    fn describe(&self) -> String {
        self.bare.describe()
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn prefetch(&self, wanted: Vec<ObjectRange>) {
        self.bare.prefetch.prefetch(wanted);
    }

    fn invalidate(&self, key: &str, range: Range<u64>) -> bool {
        self.bare.prefetch.invalidate(key, range)
    }

    fn traffic(&self) -> Option<Traffic> {
        self.bare.prefetch.traffic()
    }
}

impl ListableBackend for S3Backend {
    fn list_all(&self, prefix: &str) -> Result<Vec<ObjectMeta>> {
        check_key(prefix.strip_suffix('/').unwrap_or(prefix))?;
        let listed = self
            .bare
            .bucket
            .list(self.bare.server(), prefix, false, usize::MAX)?;
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

    fn now(&self) -> Result<u64> {
        self.bare.head(MARKER)?.1.ok_or_else(|| {
            let text = format!("{} does not say what time it is", self.describe());
            Error::new(ErrorKind::Io, text)
        })
    }

    fn try_share(&self, name: &str) -> Result<Option<Guard>> {
        check_key(name)?;
        let key = format!("{LOCKS}{name}.shared/{:016x}", lease::random());
        let shared = match self
            .renewer
            .take(&key, std::collections::BTreeSet::new(), None)
        {
            Ok(shared) => shared.map(|kept| self.guard(kept, OnRelease::Removed)),
            // Who may not write can only look.
            Err(error) if error.kind() == ErrorKind::ReadOnly => Some(Box::new(()) as Guard),
            Err(error) => return Err(error),
        };
        let alone = self
            .bare
            .look(&format!("{LOCKS}{name}"), lease::MAX_BYTES)?;
        Ok(shared.filter(|_| !alone.is_some_and(|seen| self.is_taken(&seen))))
    }

    fn writers(&self) -> Result<Writers> {
        let mut writers = Writers::default();
        for object in self.list_all(LEASES)? {
            let Some(seen) = self.bare.look(&object.key, lease::MAX_BYTES)? else {
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
                    .bare
                    .swap(&object.key, &void, Some(&seen.version))?
                    .is_some()
                {
                    self.bare.delete(&object.key)?;
                    continue;
                }
                // Renewed, or voided by somebody else: looked at once more.
                match self.bare.look(&object.key, lease::MAX_BYTES)? {
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
        self.renewer.check()?;
        self.bare.put(key, bytes)
    }

    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<bool> {
        check_key(key)?;
        self.renewer.check()?;
        Ok(self.bare.swap(key, bytes, None)?.is_some())
    }

    fn get_versioned(&self, key: &str, limit: u64) -> Result<Option<(Vec<u8>, ETag)>> {
        check_key(key)?;
        let seen = self.bare.look(key, limit)?;
        Ok(seen.map(|seen| (seen.bytes, seen.version)))
    }

    fn replace(&self, key: &str, bytes: &[u8], seen: &ETag) -> Result<bool> {
        check_key(key)?;
        self.renewer.check()?;
        Ok(self.bare.swap(key, bytes, Some(seen))?.is_some())
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
        self.renewer.check()?;
        self.bare.delete(key)
    }

    fn quarantine(&self, key: &str) -> Result<()> {
        check_key(key)?;
        self.renewer.check()?;
        let place = self.describe();
        let to = format!("{QUARANTINE}{key}");
        let mut call = Call::new(Method::PUT, &to);
        let source = self.bare.bucket.source(key);
        call.headers.push(("x-amz-copy-source", source));
        self.bare
            .send(&format!("copy {key}"), &call, &[], &mut |response, _| {
                if response.status() != StatusCode::OK {
                    return Err(error::of(&place, true, response));
                }
                // The answer begins before the copy is made (CopyObject).
                let text = bucket::read(response)?;
                match error::element(&text, "Code") {
                    Some(_) => Err(RequestError::transient("the server could not copy it")),
                    None => Ok(()),
                }
            })?;
        self.bare.delete(key)
    }

    fn hold(&self, keys: &[String]) -> Result<Vec<bool>> {
        for key in keys {
            check_key(key)?;
        }
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
                    let gate = self.bare.look(GATE, lease::MAX_BYTES)?;
                    match gate {
                        Some(seen) if self.is_taken(&seen) => Ok(None),
                        // A collector that died: from now on it learns that it did.
                        Some(seen) if !LeaseRecord::parse(&seen.bytes).owner.is_empty() => {
                            let free = LeaseRecord::free().to_json();
                            let freed = self.bare.swap(GATE, &free, Some(&seen.version))?;
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
        self.bare.delete(key)
    }

    fn remove_leftovers(&self, older: u64) -> Result<()> {
        let now = self.now()?;
        let unfinished = self.bare.unfinished()?;
        if unfinished.is_empty() {
            return Ok(());
        }
        let held = self.writers()?.held;
        for upload in unfinished {
            if upload.began.saturating_add(older) <= now && !held.contains(&upload.key) {
                self.bare.abort(&upload.key, &upload.id)?;
            }
        }
        Ok(())
    }

    fn scratch(&self) -> Result<File> {
        self.bare.scratch()
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
    /// Refuses to go on when others may have taken this writer for dead.
    pub(super) fn check(&self) -> Result<()> {
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
            let _ = self.bare.delete(kept.key());
        }
    }
}
