//! The requests that a bucket answers, each one repeated until it is answered.
//!
//! Nothing here keeps writers apart: that is what leases and conditional writes in
//! [`S3Backend`](super::S3Backend) are for.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use base64ct::{Base64, Encoding};
use md5::{Digest as _, Md5};
use reqwest::blocking::Response;
use reqwest::{Method, StatusCode, header};

use super::bucket::{Bucket, Call};
use super::error;
use crate::backend::ETag;
use crate::backend::client::{Endpoint as _, ObjectClient, RequestError};
use crate::backend::prefetch::Prefetch;
use crate::error::{Error, Result};

/// The slowest upload that is waited for, in bytes a second.
const UPLOAD: u64 = 32 << 10;

/// A client of one bucket.
pub(super) struct BucketClient {
    pub(super) prefetch: Prefetch,
    pub(super) bucket: Bucket,
    pub(super) scratch: PathBuf,
    pub(super) patience: Duration,
    /// Whether the bucket is known to keep what writers rely on.
    pub(super) checked: Mutex<bool>,
}

/// An object as it was found.
pub(super) struct FoundObject {
    pub(super) bytes: Vec<u8>,
    /// There are more bytes than were wanted.
    pub(super) longer: bool,
    pub(super) version: ETag,
    /// Seconds since it was written, by the server's clock.
    pub(super) age: u64,
}

impl BucketClient {
    pub(super) fn server(&self) -> &ObjectClient {
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
        let shown = self.describe();
        self.send(
            &format!("write {key}"),
            &Self::putting(key, bytes),
            bytes,
            &mut |response, _| match response.status() {
                StatusCode::OK => Ok(()),
                _ => Err(error::of(&shown, true, response)),
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
        let shown = self.describe();
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
                StatusCode::NOT_IMPLEMENTED => Err(error::no_conditions(&shown)),
                StatusCode::NOT_FOUND => {
                    doubt = failed > 0;
                    error::no_bucket(&shown, response).map_or(Ok(None), Err)
                }
                _ => Err(error::of(&shown, true, response)),
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
    pub(super) fn look(&self, key: &str, limit: u64) -> Result<Option<FoundObject>> {
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
    pub(super) fn glance(&self, key: &str, limit: u64) -> Result<Option<FoundObject>> {
        let shown = self.describe();
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
                StatusCode::NOT_FOUND => error::no_bucket(&shown, response).map_or(Ok(None), Err),
                _ => Err(error::of(&shown, false, response)),
            },
        )
    }

    /// The bytes of an object, if there is one; and the server's time.
    pub(super) fn head(&self, key: &str) -> Result<(Option<u64>, Option<u64>)> {
        let shown = self.describe();
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
                    _ => Err(error::of(&shown, false, response)),
                }
            },
        )
    }

    pub(super) fn size(&self, key: &str) -> Result<Option<u64>> {
        Ok(self.head(key)?.0)
    }

    pub(super) fn delete(&self, key: &str) -> Result<()> {
        let shown = self.describe();
        let call = Call::new(Method::DELETE, key);
        self.send(
            &format!("remove {key}"),
            &call,
            &[],
            &mut |response, _| match response.status() {
                StatusCode::OK | StatusCode::NO_CONTENT | StatusCode::NOT_FOUND => Ok(()),
                _ => Err(error::of(&shown, true, response)),
            },
        )
    }
}

/// The entity tag, without its quotes.
pub(super) fn version(response: &Response) -> Option<ETag> {
    let tag = response.headers().get(header::ETAG)?.to_str().ok()?;
    Some(ETag(tag.trim_matches('"').to_owned()))
}
