//! What can go wrong with a request, sorted by what is to be done about it.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::blocking::Response;
use reqwest::header::RETRY_AFTER;

use crate::error::{Error, ErrorKind};

/// Why an attempt failed.
pub(crate) enum RequestError {
    /// Another attempt may succeed, after so long if the server says so.
    Transient(String, Option<Duration>),
    /// Another attempt would end the same; what to do instead.
    Permanent(String, Option<&'static str>),
    /// The server forbids to read the object. Some say so of what they lack.
    Forbidden(String),
    /// The content itself is wrong.
    Content(Error),
}

impl RequestError {
    pub(crate) fn transient(why: impl Into<String>) -> Self {
        Self::Transient(why.into(), None)
    }

    pub(crate) fn permanent(why: impl Into<String>) -> Self {
        Self::Permanent(why.into(), None)
    }

    /// A request that got no answer.
    pub(crate) fn of_request(error: &reqwest::Error, patience: Duration) -> Self {
        let why = root_cause(error);
        if error.is_redirect() {
            return Self::Permanent(why, Some("name the address that it redirects to"));
        }
        if error.is_builder() {
            return Self::permanent(why);
        }
        if causes(error).any(is_tls) {
            return Self::Permanent(
                why,
                Some("SSL_CERT_FILE names a bundle of certificates that are trusted"),
            );
        }
        if error.is_timeout() {
            return Self::transient(format!("no answer for {} s", patience.as_secs()));
        }
        if error.is_connect() && why.contains("proxy authentication") {
            return Self::Permanent(why, Some(PROXY));
        }
        Self::transient(why)
    }

    /// A body that could not be read to its end.
    pub(crate) fn of_body(error: &io::Error) -> Self {
        Self::transient(format!("the connection broke: {}", root_cause(error)))
    }

    /// An answer that has no content for us; 404 is not one of them.
    pub(crate) fn of_status(response: &Response) -> Self {
        const STORE: &str = "put the credentials into the netrc file or the address of the store";
        let status = response.status();
        let why = format!("the server says {status}");
        match status {
            StatusCode::UNAUTHORIZED => Self::Permanent(why, Some(STORE)),
            StatusCode::FORBIDDEN => Self::Forbidden(why),
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => Self::Permanent(why, Some(PROXY)),
            StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_EARLY
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Self::Transient(why, retry_after(response)),
            _ => Self::permanent(why),
        }
    }

    /// The error that a caller sees.
    pub(crate) fn into_error(self, what: &str, attempts: u32) -> Error {
        const LISTING: &str = "if the server also says this for what it lacks, let it say 404";
        let (kind, why, hint) = match self {
            Self::Content(error) => return error,
            Self::Transient(why, _) => {
                let hint = "is the server well? try again later";
                (ErrorKind::Io, why, Some(hint))
            }
            Self::Permanent(why, hint) => (ErrorKind::Io, why, hint),
            Self::Forbidden(why) => (ErrorKind::Forbidden, why, Some(LISTING)),
        };
        let times = match attempts {
            0 | 1 => String::new(),
            more => format!(" ({more} attempts)"),
        };
        let error = Error::new(kind, format!("could not {what}: {why}{times}"));
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

const PROXY: &str = "give the proxy's credentials in its address, for example in https_proxy";

/// What the server asks for, if it does so in seconds (RFC 9110, 10.2.3). A date
/// would depend on two clocks.
fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// The innermost reason, which is the one without addresses.
fn root_cause(error: &(dyn StdError + 'static)) -> String {
    causes(error).last().unwrap_or(error).to_string()
}

/// The error and all below it, also those that an I/O error carries.
fn causes<'e>(
    error: &'e (dyn StdError + 'static),
) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'e (dyn StdError + 'static)| {
        let error = *error;
        let carried = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .map(|inner| inner as &(dyn StdError + 'static));
        carried.or_else(|| error.source())
    })
}

fn is_tls(error: &(dyn StdError + 'static)) -> bool {
    error.downcast_ref::<rustls::Error>().is_some_and(|error| {
        matches!(
            error,
            rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented
        )
    })
}
