//! What an S3 server refuses, and what is to be done about it.

use reqwest::StatusCode;
use reqwest::blocking::Response;
use reqwest::header;

use crate::backend::client::RequestError;
use crate::error::{Error, ErrorKind};

/// The longest answer that is read to learn why.
const ANSWER: u64 = 64 << 10;

/// How far clocks may be apart before this is told as the reason for a refusal, in
/// seconds. Servers allow 15 minutes.
const SKEW: u64 = 10 * 60;

/// The text of an answer, as far as it is needed.
pub(super) fn text(response: Response) -> String {
    use std::io::Read;
    let mut bytes = Vec::new();
    // What cannot be read says nothing.
    let _ = response.take(ANSWER).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The text of the first element of that name, if it is plain.
pub(super) fn element<'t>(xml: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    (!text.contains('<')).then_some(text)
}

/// Seconds since 1970 of a date as HTTP writes it.
pub(super) fn date(response: &Response, name: header::HeaderName) -> Option<u64> {
    let text = response.headers().get(name)?.to_str().ok()?;
    let parser = jiff::fmt::rfc2822::DateTimeParser::new();
    let time = parser.parse_timestamp(text).ok()?;
    u64::try_from(time.as_second()).ok()
}

/// Whether 404 says that even the bucket is not there.
pub(super) fn no_bucket(store: &str, response: Response) -> Option<RequestError> {
    let text = text(response);
    (element(&text, "Code") == Some("NoSuchBucket")).then(|| missing(store))
}

/// The server says that it does not know conditional writes (501).
#[cfg(feature = "put")]
pub(super) fn no_conditions(store: &str) -> RequestError {
    let text = format!(
        "{store} cannot be written safely: the server does not know If-Match and If-None-Match"
    );
    RequestError::Content(
        Error::new(ErrorKind::ReadOnly, text)
            .with_hint("it can be read; write to a directory, or to a server that knows them"),
    )
}

fn missing(store: &str) -> RequestError {
    RequestError::Content(
        Error::new(
            ErrorKind::Invalid,
            format!("the bucket of {store} does not exist"),
        )
        .with_hint("make the bucket, or name another one as s3://BUCKET/PREFIX"),
    )
}

/// Why a request was refused. `verb` is what it was about to do.
pub(super) fn of(store: &str, writes: bool, response: Response) -> RequestError {
    let status = response.status();
    let theirs = date(&response, header::DATE);
    let region = response
        .headers()
        .get("x-amz-bucket-region")
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let passing = RequestError::of_status(&response);
    let body = text(response);
    let code = element(&body, "Code").unwrap_or_default();
    let refuse = |kind, why: String, hint: String| {
        RequestError::Content(Error::new(kind, why).with_hint(hint))
    };
    let ours = jiff::Timestamp::now().as_second().unsigned_abs();
    let skewed = theirs.is_some_and(|theirs| theirs.abs_diff(ours) > SKEW);
    match code {
        "NoSuchBucket" => missing(store),
        "RequestTimeTooSkewed" => clock(store, ours, theirs),
        _ if status == StatusCode::FORBIDDEN && skewed => clock(store, ours, theirs),
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "InvalidToken"
        | "ExpiredToken"
        | "InvalidSecurity"
        | "AuthorizationQueryParametersError" => refuse(
            ErrorKind::Invalid,
            format!("{store} does not accept the credentials: it says {code}"),
            "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or the profile \
             that AWS_PROFILE names"
                .into(),
        ),
        "PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed" => {
            let region = region.or_else(|| element(&body, "Region").map(str::to_owned));
            let region = region.unwrap_or_else(|| "REGION".into());
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            let region = if region.bytes().all(plain) {
                region
            } else {
                "REGION".into()
            };
            refuse(
                ErrorKind::Invalid,
                format!("the bucket of {store} is in another region"),
                format!("set AWS_REGION={region}"),
            )
        }
        _ if status == StatusCode::FORBIDDEN && writes => refuse(
            ErrorKind::ReadOnly,
            format!("{store} does not let these credentials write"),
            "give them the permissions PutObject, DeleteObject and AbortMultipartUpload, or use \
             others"
                .into(),
        ),
        _ if status == StatusCode::FORBIDDEN => refuse(
            ErrorKind::Forbidden,
            format!("{store} does not let these credentials read"),
            "give them the permissions GetObject and ListBucket, or use others".into(),
        ),
        // Two conditional writes at once (409), an upload that arrived damaged, and
        // what servers say when they are busy.
        "ConditionalRequestConflict"
        | "OperationAborted"
        | "BadDigest"
        | "InvalidDigest"
        | "RequestTimeout"
        | "SlowDown"
        | "InternalError"
        | "ServiceUnavailable" => match passing {
            RequestError::Transient(why, wait) => RequestError::Transient(why, wait),
            _ => RequestError::transient(format!("the server says {code}")),
        },
        _ => match passing {
            RequestError::Permanent(why, _) if !code.is_empty() && is_word(code) => {
                RequestError::permanent(format!("{why}, {code}"))
            }
            other => other,
        },
    }
}

fn is_word(code: &str) -> bool {
    code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn clock(store: &str, ours: u64, theirs: Option<u64>) -> RequestError {
    let shown = |seconds: u64| {
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        jiff::Timestamp::from_second(seconds)
            .map_or_else(|_| "an impossible time".to_owned(), |time| time.to_string())
    };
    let theirs = theirs.map_or_else(|| "another".to_owned(), shown);
    let text = format!(
        "{store} refuses this machine's clock: here it is {}, there {theirs}",
        shown(ours)
    );
    RequestError::Content(
        Error::new(ErrorKind::Io, text).with_hint("set this machine's clock, best by NTP"),
    )
}

#[cfg(test)]
mod tests {
    use super::element;

    #[test]
    fn elements() {
        let xml = "<?xml?><Error><Code>NoSuchKey</Code><A><B>x</B></A></Error>";
        assert_eq!(element(xml, "Code"), Some("NoSuchKey"));
        assert_eq!(element(xml, "A"), None);
        assert_eq!(element(xml, "B"), Some("x"));
        assert_eq!(element("<Code>", "Code"), None);
    }
}
