//! Multipart uploads, for objects that are too long to be in memory.

use std::fs::File;
use std::os::unix::fs::FileExt;

use reqwest::{Method, StatusCode};
use rusty_s3::actions::CreateMultipartUpload;

use super::bucket::{self, Call};
use super::client::{BucketClient, version};
use super::error;
use crate::backend::check_key;
use crate::backend::client::RequestError;
use crate::error::{Error, Result};
use crate::parallel;

/// Bytes of a part. Servers want at least 5 MiB, and at most 10,000 parts.
const PART: u64 = 8 << 20;

/// The longest object that is sent whole.
pub(super) const WHOLE: u64 = 2 * PART;

/// An upload in parts that nobody has finished.
pub(super) struct UnfinishedUpload {
    pub(super) key: String,
    pub(super) id: String,
    /// In seconds since 1970.
    pub(super) began: u64,
}

pub(super) fn piece(file: &File, at: u64, len: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, at)
        .map_err(|error| Error::io("read", "a scratch file", error))?;
    Ok(bytes)
}

impl BucketClient {
    pub(super) fn begin(&self, key: &str) -> Result<String> {
        let shown = self.describe();
        let mut call = Call::new(Method::POST, key);
        call.query.push(("uploads", "1"));
        self.send(&format!("write {key}"), &call, &[], &mut |response, _| {
            if response.status() != StatusCode::OK {
                return Err(error::of(&shown, true, response));
            }
            let text = bucket::read(response)?;
            CreateMultipartUpload::parse_response(&text)
                .map(|upload| upload.upload_id().to_owned())
                .map_err(|_| RequestError::transient("the server's answer makes no sense"))
        })
    }

    /// Sends all parts, several at once; their tags in order.
    pub(super) fn parts(&self, key: &str, id: &str, file: &File, size: u64) -> Result<Vec<String>> {
        let numbers: Vec<u64> = (0..size.div_ceil(PART)).collect();
        let sent = parallel::each(&numbers, true, |number| {
            let at = number * PART;
            let bytes = piece(file, at, PART.min(size - at))?;
            let number = (number + 1).to_string();
            let mut call = Self::putting(key, &bytes);
            call.query
                .extend([("partNumber", number.as_str()), ("uploadId", id)]);
            let shown = self.describe();
            self.send(
                &format!("write {key}"),
                &call,
                &bytes,
                &mut |response, _| {
                    if response.status() != StatusCode::OK {
                        return Err(error::of(&shown, true, response));
                    }
                    let tag = version(&response).filter(|tag| tag.0.bytes().all(is_plain));
                    tag.map(|tag| tag.0).ok_or_else(|| {
                        RequestError::permanent("the server names no version of a part")
                    })
                },
            )
        });
        sent.into_iter().collect()
    }

    pub(super) fn complete(&self, key: &str, id: &str, tags: &[String], size: u64) -> Result<()> {
        let mut body = String::from("<CompleteMultipartUpload>");
        for (number, tag) in (1_u16..).zip(tags) {
            for text in ["<Part><ETag>\"", tag, "\"</ETag><PartNumber>"] {
                body.push_str(text);
            }
            body.push_str(&u16::to_string(&number));
            body.push_str("</PartNumber></Part>");
        }
        body.push_str("</CompleteMultipartUpload>");
        let shown = self.describe();
        let mut call = Call::new(Method::POST, key);
        call.query.push(("uploadId", id));
        let mut gone = false;
        self.send(
            &format!("write {key}"),
            &call,
            body.as_bytes(),
            &mut |response, failed| {
                if response.status() == StatusCode::NOT_FOUND && failed > 0 {
                    // An attempt whose answer was lost may have completed it.
                    gone = true;
                    return Ok(());
                }
                if response.status() != StatusCode::OK {
                    return Err(error::of(&shown, true, response));
                }
                // The answer begins before it is known how it ends.
                let text = bucket::read(response)?;
                if text.contains("<CompleteMultipartUploadResult") {
                    return Ok(());
                }
                Err(RequestError::transient(
                    "the server could not put the parts together",
                ))
            },
        )?;
        if gone && self.size(key)? != Some(size) {
            return Err(Error::missing(key, shown));
        }
        Ok(())
    }

    /// Forgets an upload in parts.
    pub(super) fn abort(&self, key: &str, id: &str) -> Result<()> {
        let shown = self.describe();
        let mut call = Call::new(Method::DELETE, key);
        call.query.push(("uploadId", id));
        self.send(
            &format!("give up {key}"),
            &call,
            &[],
            &mut |response, _| match response.status() {
                StatusCode::OK | StatusCode::NO_CONTENT | StatusCode::NOT_FOUND => Ok(()),
                _ => Err(error::of(&shown, true, response)),
            },
        )
    }

    /// The uploads in parts that are not finished, the first thousand of them.
    pub(super) fn unfinished(&self) -> Result<Vec<UnfinishedUpload>> {
        let shown = self.describe();
        let prefix = self.bucket.prefix().to_owned();
        let mut call = Call {
            key: None,
            ..Call::new(Method::GET, "")
        };
        call.query.push(("uploads", "1"));
        call.query.push(("prefix", &prefix));
        let text = self.send("list uploads", &call, &[], &mut |response, _| {
            match response.status() {
                StatusCode::OK => bucket::read(response),
                // A server that cannot list them has none for us.
                StatusCode::NOT_FOUND | StatusCode::NOT_IMPLEMENTED => Ok(String::new()),
                _ => Err(error::of(&shown, true, response)),
            }
        })?;
        Ok(uploads(&text, &prefix))
    }
}

fn uploads(text: &str, prefix: &str) -> Vec<UnfinishedUpload> {
    let read = |upload: &str| {
        let key = error::element(upload, "Key")?.strip_prefix(prefix)?;
        let began: jiff::Timestamp = error::element(upload, "Initiated")?.parse().ok()?;
        Some(UnfinishedUpload {
            key: check_key(key).ok().map(|()| key.to_owned())?,
            id: error::element(upload, "UploadId")?.to_owned(),
            began: u64::try_from(began.as_second()).ok()?,
        })
    };
    text.split("<Upload>").skip(1).filter_map(read).collect()
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::uploads;

    #[test]
    fn unfinished_uploads_are_those_below_the_prefix() {
        let text = "<R><Upload><Key>p/packs/a</Key><UploadId>u1</UploadId>\
            <Initiated>2026-11-23T04:00:00.000Z</Initiated></Upload>\
            <Upload><Key>q/packs/b</Key><UploadId>u2</UploadId>\
            <Initiated>2026-11-23T04:00:00Z</Initiated></Upload>\
            <Upload><Key>p/../c</Key><UploadId>u3</UploadId>\
            <Initiated>2026-11-23T04:00:00Z</Initiated></Upload></R>";
        let found = uploads(text, "p/");
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].key.as_str(), found[0].id.as_str()),
            ("packs/a", "u1")
        );
        assert_eq!(found[0].began, 1_795_406_400);
        assert!(uploads("", "p/").is_empty());
    }
}
