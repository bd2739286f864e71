//! What a bucket is asked before it is written for the first time: whether it keeps what
//! several writers rely on.
//!
//! A server that takes a conditional write for a plain one lets two writers overwrite one
//! another, and an environment is lost. So objects of their own are written, replaced and
//! removed under every condition that the store uses. What was found is remembered in the
//! bucket for each address of its server, because a proxy can spoil it, too.

use std::fmt;
use std::sync::PoisonError;

use reqwest::{Method, StatusCode, header};

use super::bucket::{self, Call};
use super::client::BucketClient;
use super::{error, lease};
use crate::backend::ETag;
use crate::digest::Blake3;
use crate::error::{Error, ErrorKind, Result};

/// How long what was found counts, in seconds by the server's clock.
const LASTS: u64 = 7 * 24 * 60 * 60;

/// What a passed probe leaves in the bucket.
const PASSED: &[u8] = b"{\"schema\":1,\"passed\":true}\n";

/// What a store needs of its backend, and how it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeCheck {
    /// What is needed.
    pub what: &'static str,
    /// What is wrong with it; `None` if nothing is.
    pub fault: Option<String>,
}

impl ProbeCheck {
    pub(crate) fn new(what: &'static str, fault: Option<impl fmt::Display>) -> Self {
        let fault = fault.map(|fault| fault.to_string());
        Self { what, fault }
    }
}

impl BucketClient {
    /// Refuses a bucket that does not keep what writers rely on. Asks nothing but one
    /// object if that was found out lately.
    pub(super) fn check_conditions(&self) -> Result<()> {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if *checked {
            return Ok(());
        }
        let known = self.look(&self.probe_key(), 1 << 10);
        // A server without entity tags is named by the probe.
        let known = known.ok().flatten();
        if !known.is_some_and(|known| known.bytes == PASSED && known.age < LASTS) {
            let faults = self.probe()?.into_iter().filter_map(|check| check.fault);
            if let Some(fault) = faults.into_iter().next() {
                return Err(Error::new(
                    ErrorKind::ReadOnly,
                    format!("{} cannot be written safely: {fault}", self.describe()),
                )
                .with_hint(
                    "it can be read; write to a directory, or to a server that keeps If-Match and \
                     If-None-Match (`imgbuild doctor --store URL` prints what was tried)",
                ));
            }
        }
        *checked = true;
        Ok(())
    }

    /// Tries all that a store needs of a bucket, and remembers it if nothing is wrong.
    pub(super) fn probe(&self) -> Result<Vec<ProbeCheck>> {
        let key = format!("locks/probe-{:016x}", lease::random());
        let done = self.try_all(&key);
        let removed = self.delete(&key);
        let checks = done?;
        removed?;
        let remembered = self.probe_key();
        if checks.iter().all(|check| check.fault.is_none()) {
            self.put(&remembered, PASSED)?;
        } else {
            self.delete(&remembered)?;
        }
        Ok(checks)
    }

    fn probe_key(&self) -> String {
        let server = Blake3::of(self.bucket.server().as_bytes()).hex();
        format!("locks/probed-{}", &server[..16])
    }

    fn try_all(&self, key: &str) -> Result<Vec<ProbeCheck>> {
        // Of another object: what an entity tag usually is.
        let other = ETag("0123456789abcdef0123456789abcdef".into());
        let mut checks = Vec::new();
        let mut add = |what, fault: Option<&str>| {
            let fault = fault.map(|fault| format!("the server {fault}"));
            checks.push(ProbeCheck::new(what, fault));
        };

        let first = self.swap(key, b"first", None)?;
        let again = self.swap(key, b"again", None)?;
        let seen = self.look(key, 64)?;
        let kept = seen.as_ref().is_some_and(|seen| seen.bytes == b"first");
        add(
            "If-None-Match keeps an object that is there",
            match (&first, &again) {
                (None, _) => Some("refuses If-None-Match for an object that is not there"),
                (Some(_), None) if kept => None,
                _ => Some("ignores If-None-Match: two writers would overwrite one another"),
            },
        );

        self.put(key, b"first")?;
        let seen = self.look(key, 64)?;
        let version = seen.as_ref().map(|seen| seen.version.clone());
        let wrong = self.swap(key, b"wrong", Some(&other))?;
        let kept = self
            .look(key, 64)?
            .is_some_and(|seen| seen.bytes == b"first");
        let right = match &version {
            Some(version) => self.swap(key, b"second", Some(version))?,
            None => None,
        };
        let stale = match &version {
            Some(version) => self.swap(key, b"stale", Some(version))?,
            None => None,
        };
        let seen = self.look(key, 64)?;
        let second = seen.as_ref().is_some_and(|seen| seen.bytes == b"second");
        add(
            "If-Match replaces the version that was seen, and no other",
            if wrong.is_some() || !kept || stale.is_some() {
                Some("ignores If-Match: two writers would overwrite one another")
            } else if right.is_none() || right == version {
                Some("refuses If-Match for the version that is there")
            } else if !second {
                Some("does not show at once what was written")
            } else {
                None
            },
        );

        self.put(key, b"0123456789")?;
        add(
            "ranges",
            (self.range(key)?.as_deref() != Some(b"345")).then_some("ignores Range"),
        );
        let listed = |client: &Self| -> Result<bool> {
            let listed = client.bucket.list(client.server(), key, false, 10)?;
            Ok(listed.iter().any(|object| object.key == key))
        };
        let shown = listed(self)?;
        self.delete(key)?;
        let gone = !listed(self)? && self.look(key, 64)?.is_none();
        add(
            "lists show what was just written and removed",
            if !shown {
                Some("lists late: a collector would remove what is in use")
            } else if !gone {
                Some("still shows what was removed")
            } else {
                None
            },
        );

        let absent = self.swap(key, b"absent", Some(&other))?;
        let none = self.look(key, 64)?.is_none();
        let back = self.swap(key, b"back", None)?;
        add(
            "conditions on an object that was removed",
            if absent.is_some() || !none {
                Some("ignores If-Match where nothing is")
            } else if back.is_none() {
                Some("refuses If-None-Match for an object that was removed")
            } else {
                None
            },
        );
        Ok(checks)
    }

    /// Bytes 3 to 5 of an object, if the server sends no others.
    fn range(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let shown = self.describe();
        let mut call = Call::new(Method::GET, key);
        call.headers.push(("range", "bytes=3-5".to_owned()));
        let what = format!("fetch {key}");
        self.send(&what, &call, &[], &mut |response, _| {
            let named = response.headers().contains_key(header::CONTENT_RANGE);
            match response.status() {
                StatusCode::PARTIAL_CONTENT if named => {
                    bucket::read(response).map(|text| Some(text.into_bytes()))
                }
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(None),
                _ => Err(error::of(&shown, false, response)),
            }
        })
    }
}
