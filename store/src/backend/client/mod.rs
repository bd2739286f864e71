//! The HTTP client for objects, which web servers and buckets share.
//!
//! [`ObjectClient`] asks one server for objects and ranges, repeats requests that may
//! succeed later, and refuses what is longer, slower or other than it should be. An
//! [`Endpoint`] says how a request looks: a folder of a web server, or a bucket.

mod backoff;
mod error;
mod netrc;
mod options;
pub(crate) mod transport;
mod url;

use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::{self, HeaderMap, HeaderName};
use reqwest::redirect::Policy;

use self::backoff::Backoff;
pub(crate) use self::error::RequestError;
pub use self::options::ClientOptions;
use self::url::Credentials;
pub use self::url::HttpUrl;
use crate::backend::Traffic;
use crate::error::{Error, Result};

/// Bytes that are read at once.
const BUFFER: usize = 128 << 10;

/// A server that sends less than this many bytes a second is given up.
const SLOWEST: u64 = 1024;

/// The longest object that is taken whole because its server knows no ranges.
pub(crate) const WHOLE_MAX: u64 = super::OBJECT_MAX;

/// A range that is asked for.
pub(crate) struct RangeRequest<'a> {
    pub(crate) key: &'a str,
    pub(crate) range: Range<u64>,
    /// The longest object that is taken in place of the range.
    pub(crate) limit: u64,
    pub(crate) caution: Caution,
}

/// How an object is asked for that came wrong before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Caution {
    /// It did not.
    #[default]
    None,
    /// No cache on the way may answer.
    Fresh,
    /// Nor cut a range out of it: all of it is taken.
    Whole,
}

impl<'a> RangeRequest<'a> {
    pub(crate) fn new(key: &'a str, range: Range<u64>, caution: Caution) -> Self {
        Self {
            key,
            range,
            limit: WHOLE_MAX,
            caution,
        }
    }
}

/// What takes the bytes of a range.
pub(crate) trait RangeReceiver {
    /// The server sends the whole object, from its first byte.
    fn whole(&mut self) -> Result<()>;

    /// The bytes from `at` on. They may come a second time.
    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()>;
}

/// The error for an object that ends before a range does.
pub(crate) fn too_short(key: &str, store: &str, size: u64, range: &Range<u64>) -> Error {
    let len = range.end - range.start;
    Error::corrupt(
        format_args!("{key} in {store}"),
        format_args!(
            "it has {size} bytes, but {len} from byte {} are needed",
            range.start
        ),
    )
}

/// What differs from one kind of server to another.
pub(crate) trait Endpoint: Send + Sync + 'static {
    /// Asks for an object.
    fn get(&self, client: &Client, key: &str) -> RequestBuilder;

    /// The header that makes a further range one of the same object.
    fn same(&self) -> HeaderName {
        header::IF_RANGE
    }

    /// An answer that is neither content nor a range.
    fn refused(&self, response: Response) -> RequestError {
        RequestError::of_status(&response)
    }

    /// An answer that says 404: `None` if that only means that there is no object.
    fn absent(&self, _response: Response) -> Option<RequestError> {
        None
    }

    /// Lists keys as [`Backend::list`](crate::backend::Backend::list). A folder of a web server has no list that programs could
    /// rely on.
    fn list(&self, _server: &ObjectClient, _prefix: &str) -> Result<Option<Vec<String>>> {
        Ok(None)
    }

    /// The name that a person recognises.
    fn describe(&self) -> String;
}

/// A folder of a web server.
struct WebFolder {
    address: HttpUrl,
    credentials: Option<Credentials>,
}

impl Endpoint for WebFolder {
    fn get(&self, client: &Client, key: &str) -> RequestBuilder {
        let request = client.get(self.address.object(key));
        match &self.credentials {
            Some(Credentials { user, password }) => request.basic_auth(user, password.as_deref()),
            None => request,
        }
    }

    fn describe(&self) -> String {
        self.address.to_string()
    }
}

/// A server with a store.
pub(crate) struct ObjectClient {
    client: Client,
    origin: Box<dyn Endpoint>,
    access: ClientOptions,
    requests: AtomicU64,
    repeated: AtomicU64,
    received: AtomicU64,
}

/// What is being fetched, and how far.
struct Transfer<'a> {
    key: &'a str,
    /// `None` for a whole object.
    range: Option<Range<u64>>,
    /// The longest object that is taken as a whole.
    limit: u64,
    caution: Caution,
    /// The next byte that is needed.
    at: u64,
    /// What the object that is being fetched is known by (RFC 9110, 8.8).
    validator: Option<String>,
}

/// What there was.
enum Fetched {
    All,
    Part,
    Nothing,
}

impl ObjectClient {
    /// The folder of a web server.
    pub(super) fn web(address: &HttpUrl, access: &ClientOptions) -> Result<Self> {
        let client = transport::build(address, access, Policy::custom(transport::redirect))?;
        let origin = WebFolder {
            address: address.clone(),
            credentials: access.credentials(address),
        };
        Ok(Self::new(client, Box::new(origin), access))
    }

    pub(crate) fn new(client: Client, origin: Box<dyn Endpoint>, access: &ClientOptions) -> Self {
        Self {
            client,
            origin,
            access: access.clone(),
            requests: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            received: AtomicU64::new(0),
        }
    }

    /// Asks for anything else, and again until `judge` is content or it makes no
    /// sense. `what` says it in words; both closures learn how many attempts failed.
    #[cfg(feature = "s3")]
    pub(crate) fn exchange<T>(
        &self,
        what: &str,
        ask: &dyn Fn(&Client) -> Result<RequestBuilder>,
        judge: &mut dyn FnMut(Response, u32) -> Result<T, RequestError>,
    ) -> Result<T> {
        let mut tries = Backoff::new(self.access.pause);
        loop {
            let request = ask(&self.client)?;
            self.requests.fetch_add(1, Ordering::Relaxed);
            let judged = match request.send() {
                Ok(response) => judge(response, tries.failed()),
                Err(error) => Err(RequestError::of_request(&error, self.access.patience)),
            };
            let fault = match judged {
                Ok(judged) => return Ok(judged),
                Err(fault) => fault,
            };
            let wait = match &fault {
                RequestError::Transient(_, demanded) => tries.next(false, *demanded, random()),
                _ => None,
            };
            let Some(wait) = wait else {
                return Err(fault.into_error(what, tries.failed()));
            };
            self.repeated.fetch_add(1, Ordering::Relaxed);
            thread::sleep(wait);
        }
    }

    /// Repeats attempts until one succeeds or none will.
    fn fetch(&self, mut transfer: Transfer<'_>, sink: &mut dyn RangeReceiver) -> Result<Fetched> {
        let mut tries = Backoff::new(self.access.pause);
        loop {
            let before = transfer.at;
            let fault = match self.attempt(&mut transfer, sink) {
                // A server may send less of a range than it was asked for.
                Ok(Fetched::Part) if transfer.is_short() && transfer.at > before => continue,
                Ok(Fetched::Part) if transfer.is_short() => {
                    RequestError::permanent("the server sends less than it was asked for")
                }
                Ok(fetched) => return Ok(fetched),
                Err(fault) => fault,
            };
            let wait = match &fault {
                RequestError::Transient(_, demanded) => {
                    tries.next(transfer.at > before, *demanded, random())
                }
                _ => None,
            };
            let Some(wait) = wait else {
                let what = format!("fetch {} from {}", transfer.key, self.origin.describe());
                return Err(fault.into_error(&what, tries.failed()));
            };
            self.repeated.fetch_add(1, Ordering::Relaxed);
            thread::sleep(wait);
        }
    }

    fn attempt(
        &self,
        transfer: &mut Transfer<'_>,
        sink: &mut dyn RangeReceiver,
    ) -> Result<Fetched, RequestError> {
        let response = self.ask(transfer)?;
        let headers = response.headers();
        if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
            && encoding != "identity"
        {
            // A cache may have it so.
            if transfer.caution == Caution::None {
                transfer.caution = Caution::Fresh;
                return Err(RequestError::transient("it came compressed once more"));
            }
            return Err(RequestError::Permanent(
                "the server, or a proxy before it, sends it compressed once more".into(),
                Some("let it send the files of a store as they are"),
            ));
        }
        match response.status() {
            StatusCode::OK => {
                if let Some(size) = response
                    .content_length()
                    .filter(|size| *size > transfer.limit)
                {
                    return Err(self.too_long(transfer, size));
                }
                if transfer.range.is_some() {
                    sink.whole().map_err(RequestError::Content)?;
                }
                transfer.at = 0;
                transfer.validator = validator(headers);
                self.read(response, transfer, None, sink)?;
                Ok(Fetched::All)
            }
            StatusCode::PARTIAL_CONTENT => {
                let part = content_range(headers).ok_or_else(|| {
                    transfer.odd_range("the server does not say which bytes it sends")
                })?;
                transfer.check(&part, &self.origin.describe())?;
                transfer.validator = validator(headers);
                self.read(response, transfer, Some(part.range.end), sink)?;
                match transfer.range {
                    Some(_) => Ok(Fetched::Part),
                    None if part.size == Some(transfer.at) => Ok(Fetched::All),
                    None => Err(RequestError::transient(
                        "the server sends less than it was asked for",
                    )),
                }
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => self
                .origin
                .absent(response)
                .map_or(Ok(Fetched::Nothing), Err),
            StatusCode::PRECONDITION_FAILED if transfer.validator.is_some() => {
                transfer.validator = None;
                transfer.at = transfer.start();
                Err(RequestError::transient("it changed while it was fetched"))
            }
            StatusCode::RANGE_NOT_SATISFIABLE => match (&transfer.range, content_range(headers)) {
                (
                    Some(range),
                    Some(Part {
                        size: Some(size), ..
                    }),
                ) if size < range.end => Err(RequestError::Content(too_short(
                    transfer.key,
                    &self.describe(),
                    size,
                    range,
                ))),
                (Some(_), _) => Err(transfer.odd_range("the server has no such bytes of it")),
                // It has become shorter since the last attempt.
                (None, _) => {
                    transfer.at = 0;
                    transfer.validator = None;
                    Err(RequestError::transient("it changed while it was fetched"))
                }
            },
            _ => Err(self.origin.refused(response)),
        }
    }

    fn ask(&self, transfer: &mut Transfer<'_>) -> Result<Response, RequestError> {
        let mut request = self
            .origin
            .get(&self.client, transfer.key)
            .header(header::ACCEPT_ENCODING, "identity");
        let old_is_fine = transfer.caution == Caution::None && !is_mutable(transfer.key);
        let control = if old_is_fine {
            "no-transform"
        } else {
            "no-cache, no-transform"
        };
        request = request.header(header::CACHE_CONTROL, control);
        let start = transfer.start();
        if transfer.range.is_none() && transfer.validator.is_none() {
            // What there is could be the beginning of something else.
            transfer.at = 0;
        }
        let range = match &transfer.range {
            Some(_) if transfer.caution == Caution::Whole => {
                transfer.at = start;
                None
            }
            Some(range) => Some(format!("bytes={}-{}", transfer.at, range.end - 1)),
            None if transfer.at > 0 => Some(format!("bytes={}-", transfer.at)),
            None => None,
        };
        if let Some(range) = range {
            request = request.header(header::RANGE, range);
        }
        if let Some(validator) = transfer.validator.as_ref().filter(|_| transfer.at > start) {
            request = request.header(self.origin.same(), validator);
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        request
            .send()
            .map_err(|error| RequestError::of_request(&error, self.access.patience))
    }

    /// Passes on what comes, which may go up to `end`, and to the limit without.
    fn read(
        &self,
        mut response: Response,
        transfer: &mut Transfer<'_>,
        end: Option<u64>,
        sink: &mut dyn RangeReceiver,
    ) -> Result<(), RequestError> {
        let mut pace = Pace::new(self.access.patience);
        let mut buffer = vec![0; BUFFER];
        loop {
            let len = match response.read(&mut buffer) {
                Ok(0) => break,
                Ok(len) => len as u64,
                Err(error) => return Err(RequestError::of_body(&error)),
            };
            self.received.fetch_add(len, Ordering::Relaxed);
            if transfer.at + len > end.unwrap_or(transfer.limit) {
                return Err(match end {
                    Some(_) => {
                        RequestError::permanent("the server sends more than it was asked for")
                    }
                    None => self.too_long(transfer, transfer.at + len),
                });
            }
            sink.write(transfer.at, &buffer[..len as usize])
                .map_err(RequestError::Content)?;
            transfer.at += len;
            pace.took(len)?;
        }
        match end {
            Some(end) if transfer.at < end => Err(RequestError::transient("the connection broke")),
            _ => Ok(()),
        }
    }

    fn too_long(&self, transfer: &Transfer<'_>, size: u64) -> RequestError {
        let Transfer { key, limit, .. } = transfer;
        RequestError::Content(Error::corrupt(
            format_args!("{key} in {}", self.origin.describe()),
            format_args!("it has {size} bytes or more, and may have {limit}"),
        ))
    }
}

impl Transfer<'_> {
    /// The first byte that is wanted at all.
    fn start(&self) -> u64 {
        self.range.as_ref().map_or(0, |range| range.start)
    }

    /// Whether bytes of the range are missing.
    fn is_short(&self) -> bool {
        self.range.as_ref().is_some_and(|range| self.at < range.end)
    }

    /// The fault of a range that is not the one that was asked for: the whole object may be right.
    fn odd_range(&mut self, why: &str) -> RequestError {
        if self.range.is_none() || self.caution == Caution::Whole {
            return RequestError::permanent(why);
        }
        self.caution = Caution::Whole;
        RequestError::transient(why)
    }

    /// Refuses a part that is not the one that was asked for.
    fn check(&mut self, part: &Part, store: &str) -> Result<(), RequestError> {
        if part.range.start != self.at || part.range.is_empty() {
            return Err(self.odd_range("the server sends other bytes than were asked for"));
        }
        if let Some(range) = &self.range {
            if let Some(size) = part.size.filter(|size| *size < range.end) {
                let short = too_short(self.key, store, size, range);
                return Err(RequestError::Content(short));
            }
            if part.range.end > range.end {
                return Err(self.odd_range("the server sends more than it was asked for"));
            }
        } else if part.size.is_none_or(|size| size > self.limit) || part.range.end > self.limit {
            let why = format_args!("it has more bytes than the {} that it may have", self.limit);
            let error = Error::corrupt(format_args!("{} in {store}", self.key), why);
            return Err(RequestError::Content(error));
        }
        Ok(())
    }
}

impl ObjectClient {
    /// Fetches a whole object of at most `limit` bytes; `None` if there is none. With
    /// `fresh`, no cache on the way may answer.
    pub(crate) fn whole(&self, key: &str, limit: u64, fresh: bool) -> Result<Option<Vec<u8>>> {
        let transfer = Transfer {
            key,
            range: None,
            limit,
            caution: if fresh { Caution::Fresh } else { Caution::None },
            at: 0,
            validator: None,
        };
        let mut bytes = Bytes::default();
        Ok(match self.fetch(transfer, &mut bytes)? {
            Fetched::Nothing => None,
            Fetched::All | Fetched::Part => Some(bytes.0),
        })
    }

    /// Fetches the bytes of a range, in order, into `sink`; or the whole object of at
    /// most `limit` bytes, if the server sends nothing less.
    pub(crate) fn range(&self, ask: &RangeRequest<'_>, sink: &mut dyn RangeReceiver) -> Result<()> {
        if ask.range.is_empty() {
            return Ok(());
        }
        let transfer = Transfer {
            key: ask.key,
            range: Some(ask.range.clone()),
            limit: ask.limit,
            caution: ask.caution,
            at: ask.range.start,
            validator: None,
        };
        match self.fetch(transfer, sink)? {
            Fetched::Nothing => Err(Error::missing(ask.key, self.describe())),
            Fetched::All | Fetched::Part => Ok(()),
        }
    }

    /// Lists keys, as [`Backend::list`](crate::backend::Backend::list).
    pub(crate) fn list(&self, prefix: &str) -> Result<Option<Vec<String>>> {
        self.origin.list(self, prefix)
    }

    /// Names the store in words, without a password.
    pub(crate) fn describe(&self) -> String {
        self.origin.describe()
    }

    /// The directory for scratch files.
    pub(crate) fn scratch(&self) -> &Path {
        &self.access.scratch
    }

    /// Counts what was asked so far.
    pub(crate) fn traffic(&self) -> Traffic {
        Traffic {
            requests: self.requests.load(Ordering::Relaxed),
            repeated: self.repeated.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
        }
    }
}

/// Takes a whole object.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl RangeReceiver for Bytes {
    fn whole(&mut self) -> Result<()> {
        Ok(())
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        self.0.truncate(at as usize);
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Notices when a server drips.
struct Pace {
    patience: Duration,
    since: Instant,
    bytes: u64,
}

impl Pace {
    fn new(patience: Duration) -> Self {
        Self {
            patience,
            since: Instant::now(),
            bytes: 0,
        }
    }

    fn took(&mut self, bytes: u64) -> Result<(), RequestError> {
        self.bytes += bytes;
        if self.since.elapsed() < self.patience {
            return Ok(());
        }
        if self.bytes < SLOWEST * self.patience.as_secs().max(1) {
            let seconds = self.patience.as_secs();
            return Err(RequestError::Permanent(
                format!("the server sent less than {SLOWEST} bytes a second for {seconds} s"),
                Some("IMGBUILD_PATIENCE is how many seconds a slow server is waited for"),
            ));
        }
        *self = Self::new(self.patience);
        Ok(())
    }
}

/// `Content-Range` (RFC 9110, 14.4).
struct Part {
    /// Empty if the server had none of what was asked for.
    range: Range<u64>,
    size: Option<u64>,
}

fn content_range(headers: &HeaderMap) -> Option<Part> {
    parse_content_range(headers.get(header::CONTENT_RANGE)?.to_str().ok()?)
}

fn parse_content_range(text: &str) -> Option<Part> {
    let (range, size) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let size = match size {
        "*" => None,
        digits => Some(digits.parse().ok()?),
    };
    if range == "*" {
        return Some(Part { range: 0..0, size });
    }
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let range = first..last.checked_add(1)?;
    let sane = first <= last && size.is_none_or(|size| last < size);
    sane.then_some(Part { range, size })
}

/// What the server knows the object by, if that is good enough for a range: a
/// strong entity tag, or a date.
fn validator(headers: &HeaderMap) -> Option<String> {
    let text = |name| Some(headers.get(name)?.to_str().ok()?.to_owned());
    text(header::ETAG)
        .filter(|tag| tag.starts_with('"'))
        .or_else(|| text(header::LAST_MODIFIED))
}

/// Objects that change, of which an old one is no good.
fn is_mutable(key: &str) -> bool {
    key.ends_with("/timestamp.json") || key.starts_with("hints/") || key == super::CATALOGUE
}

/// Any number. The kernel's, so that nodes that were started together part.
fn random() -> u32 {
    let mut bytes = [0; 4];
    let filled = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
    filled.map_or(u32::MAX, |_| u32::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        let part = |text| parse_content_range(text).map(|part| (part.range, part.size));
        assert_eq!(part("bytes 0-9/10"), Some((0..10, Some(10))));
        assert_eq!(part("bytes 5-5/*"), Some((5..6, None)));
        assert_eq!(part("bytes */10"), Some((0..0, Some(10))));
        for text in [
            "",
            "bytes",
            "bytes 0-9",
            "bytes 9-0/10",
            "bytes 0-10/10",
            "bytes -1/2",
            "lines 0-9/10",
            "bytes 0-18446744073709551615/*",
            "bytes a-b/c",
        ] {
            assert_eq!(part(text), None, "{text}");
        }
    }
}
