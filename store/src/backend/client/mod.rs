//! The HTTP client for objects, which web servers and buckets share.
//!
//! [`ObjectClient`] asks one server for objects and ranges, repeats requests that may
//! succeed later, and refuses what is longer, slower or other than it should be. An
//! [`Endpoint`] says how a request looks: a folder of a web server, or a bucket.
//!
//! ```text
//! transfer       what is asked for, what takes it, and how far that is
//! content_range  which part of which object an answer is
//! backoff        when a request is repeated, and after how long
//! pace           how fast a server has to be
//! transport      the connection pool: TLS, proxies, redirects
//! options        proxies, credentials, time limits
//! netrc          which credentials are for a host
//! url            the address of a store on a web server
//! error          what can go wrong, sorted by what is to be done about it
//! ```

mod backoff;
mod content_range;
mod error;
mod netrc;
mod options;
mod pace;
mod transfer;
pub(crate) mod transport;
mod url;

use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use reqwest::StatusCode;
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::{self, HeaderName};
use reqwest::redirect::Policy;

use self::backoff::Backoff;
use self::content_range::{Part, content_range, validator};
pub(crate) use self::error::RequestError;
pub use self::options::ClientOptions;
use self::pace::Pace;
use self::transfer::{Bytes, Transfer};
pub(crate) use self::transfer::{Caution, RangeReceiver, RangeRequest, WHOLE_MAX, too_short};
use self::url::Credentials;
pub use self::url::HttpUrl;
use crate::backend::Traffic;
use crate::error::{Error, Result};

/// Bytes that are read at once.
const BUFFER: usize = 128 << 10;

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

    /// Puts an object where there is none.
    #[cfg(feature = "put")]
    fn put_new(&self, client: &Client, key: &str) -> RequestBuilder;

    /// An answer to such a request that puts nothing.
    #[cfg(feature = "put")]
    fn refused_put(&self, response: Response) -> RequestError {
        self.refused(response)
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

impl WebFolder {
    fn with_credentials(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.credentials {
            Some(Credentials { user, password }) => request.basic_auth(user, password.as_deref()),
            None => request,
        }
    }
}

impl Endpoint for WebFolder {
    fn get(&self, client: &Client, key: &str) -> RequestBuilder {
        self.with_credentials(client.get(self.address.object(key)))
    }

    #[cfg(feature = "put")]
    fn put_new(&self, client: &Client, key: &str) -> RequestBuilder {
        let request = client.put(self.address.object(key));
        self.with_credentials(request.header(header::IF_NONE_MATCH, "*"))
    }

    fn describe(&self) -> String {
        self.address.to_string()
    }
}

/// A server with a store.
pub(crate) struct ObjectClient {
    client: Client,
    endpoint: Box<dyn Endpoint>,
    access: ClientOptions,
    requests: AtomicU64,
    repeated: AtomicU64,
    received: AtomicU64,
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
        let endpoint = WebFolder {
            address: address.clone(),
            credentials: access.credentials(address),
        };
        Ok(Self::new(client, Box::new(endpoint), access))
    }

    pub(crate) fn new(client: Client, endpoint: Box<dyn Endpoint>, access: &ClientOptions) -> Self {
        Self {
            client,
            endpoint,
            access: access.clone(),
            requests: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            received: AtomicU64::new(0),
        }
    }

    /// Asks for anything else, and again until `judge` is content or it makes no
    /// sense. `what` says it in words; both closures learn how many attempts failed.
    #[cfg(any(feature = "s3", feature = "put"))]
    pub(crate) fn exchange<T>(
        &self,
        what: &str,
        ask: &dyn Fn(&Client) -> Result<RequestBuilder>,
        judge: &mut dyn FnMut(Response, u32) -> Result<T, RequestError>,
    ) -> Result<T> {
        let mut tries = Backoff::new(self.access.pause, self.access.attempts);
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

    /// Puts an object where there is none; false if there is one, of whatever content.
    #[cfg(feature = "put")]
    pub(crate) fn put_new(&self, key: &str, bytes: &[u8]) -> Result<bool> {
        let what = format!("write {key} to {}", self.describe());
        let ask = |client: &Client| {
            let request = self.endpoint.put_new(client, key);
            Ok(request.body(bytes.to_vec()))
        };
        self.exchange(&what, &ask, &mut |response, _| match response.status() {
            StatusCode::OK | StatusCode::CREATED | StatusCode::NO_CONTENT => Ok(true),
            StatusCode::PRECONDITION_FAILED => Ok(false),
            _ => Err(self.endpoint.refused_put(response)),
        })
    }

    /// Repeats attempts until one succeeds or none will.
    fn fetch(
        &self,
        mut transfer: Transfer<'_>,
        receiver: &mut dyn RangeReceiver,
    ) -> Result<Fetched> {
        let mut tries = Backoff::new(self.access.pause, self.access.attempts);
        loop {
            let before = transfer.at;
            let fault = match self.attempt(&mut transfer, receiver) {
                // A server may send less of a range than it was asked for.
                Ok(Fetched::Part) if transfer.is_short() && transfer.at > before => continue,
                Ok(Fetched::Part) if transfer.is_short() => {
                    RequestError::permanent("the server sends less than it was asked for")
                }
                // A cache may remember a time before it was there.
                Ok(Fetched::Nothing) if transfer.may_be_old() => {
                    transfer.caution = Caution::Fresh;
                    continue;
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
                let what = format!("fetch {} from {}", transfer.key, self.endpoint.describe());
                return Err(fault.into_error(&what, tries.failed()));
            };
            self.repeated.fetch_add(1, Ordering::Relaxed);
            thread::sleep(wait);
        }
    }

    fn attempt(
        &self,
        transfer: &mut Transfer<'_>,
        receiver: &mut dyn RangeReceiver,
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
                    receiver.whole().map_err(RequestError::Content)?;
                }
                transfer.at = 0;
                transfer.validator = validator(headers);
                self.read(response, transfer, None, receiver)?;
                Ok(Fetched::All)
            }
            StatusCode::PARTIAL_CONTENT => {
                let part = content_range(headers).ok_or_else(|| {
                    transfer.odd_range("the server does not say which bytes it sends")
                })?;
                transfer.check(&part, &self.endpoint.describe())?;
                transfer.validator = validator(headers);
                self.read(response, transfer, Some(part.range.end), receiver)?;
                match transfer.range {
                    Some(_) => Ok(Fetched::Part),
                    None if part.size == Some(transfer.at) => Ok(Fetched::All),
                    None => Err(RequestError::transient(
                        "the server sends less than it was asked for",
                    )),
                }
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => self
                .endpoint
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
            _ => Err(self.endpoint.refused(response)),
        }
    }

    fn ask(&self, transfer: &mut Transfer<'_>) -> Result<Response, RequestError> {
        let mut request = self
            .endpoint
            .get(&self.client, transfer.key)
            .header(header::ACCEPT_ENCODING, "identity");
        let control = if transfer.may_be_old() {
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
            request = request.header(self.endpoint.same(), validator);
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
        receiver: &mut dyn RangeReceiver,
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
            receiver
                .write(transfer.at, &buffer[..len as usize])
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
            format_args!("{key} in {}", self.endpoint.describe()),
            format_args!("it has {size} bytes or more, and may have {limit}"),
        ))
    }

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

    /// Fetches the bytes of a range, in order, into `receiver`; or the whole object of at
    /// most `limit` bytes, if the server sends nothing less.
    pub(crate) fn range(
        &self,
        ask: &RangeRequest<'_>,
        receiver: &mut dyn RangeReceiver,
    ) -> Result<()> {
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
        match self.fetch(transfer, receiver)? {
            Fetched::Nothing => Err(Error::missing(ask.key, self.describe())),
            Fetched::All | Fetched::Part => Ok(()),
        }
    }

    /// Lists keys, as [`Backend::list`](crate::backend::Backend::list).
    pub(crate) fn list(&self, prefix: &str) -> Result<Option<Vec<String>>> {
        self.endpoint.list(self, prefix)
    }

    /// Names the store in words, without a password.
    pub(crate) fn describe(&self) -> String {
        self.endpoint.describe()
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

/// A random number, so that nodes started together do not try again in step.
fn random() -> u32 {
    let mut bytes = [0; 4];
    let filled = crate::random::fill(&mut bytes);
    filled.map_or(u32::MAX, |()| u32::from_le_bytes(bytes))
}
