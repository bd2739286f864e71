//! Logs: what the steps of an image's build printed.
//!
//! A log explains an image and proves nothing: nobody signs it, no digest depends
//! on it, another build of the same bytes replaces it, and an image without one is
//! whole. See [`crate::format::build_log`].

use serde::{Deserialize, Serialize};

use crate::digest::ImageId;
use crate::error::{Error, Result};

/// The schema that this crate reads and writes.
pub(crate) const SCHEMA: u32 = 1;

/// The longest object that is read, and the longest JSON in it.
pub(crate) const MAX_BYTES: u64 = 8 << 20;
const MAX_JSON: usize = 64 << 20;

/// The most bytes of text that are kept, of one step and of all.
const MAX_STEP: usize = 512 << 10;
const MAX_TEXT: usize = 4 << 20;

/// What a build printed, step by step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildLog {
    /// The version of the form, 1.
    pub schema: u32,
    /// The image's name in that build.
    pub name: String,
    /// Its steps, in order.
    pub steps: Vec<StepLog>,
}

/// What one step printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepLog {
    /// The step's name.
    pub name: String,
    /// Its output; a long one without its middle.
    pub text: String,
}

impl BuildLog {
    /// A log of steps, each with its name and its output. One output is taken at
    /// a time and cut, so that the whole stays small.
    pub fn new(name: String, steps: impl ExactSizeIterator<Item = (String, String)>) -> Self {
        let most = MAX_STEP.min(MAX_TEXT / steps.len().max(1));
        let steps = steps.map(|(name, text)| StepLog {
            name,
            text: shorten(text, most),
        });
        Self {
            schema: SCHEMA,
            name,
            steps: steps.collect(),
        }
    }

    /// The key of an image's log.
    pub(crate) fn key(image: &ImageId) -> String {
        format!("logs/{}.json.zst", image.hex())
    }

    /// Reads the compressed form.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let damaged = |why: &dyn std::fmt::Display| Error::corrupt("the log", why);
        let json = zstd::bulk::decompress(bytes, MAX_JSON).map_err(|e| damaged(&e))?;
        let log: Self = serde_json::from_slice(&json).map_err(|e| damaged(&e))?;
        if log.schema != SCHEMA {
            return Err(damaged(&format_args!("its schema is {}", log.schema)));
        }
        Ok(log)
    }

    /// The compressed form.
    #[cfg(feature = "write")]
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        const LEVEL: i32 = 9;
        let json = serde_json::to_vec(self).expect("a log has a JSON form");
        zstd::bulk::compress(&json, LEVEL).map_err(|error| Error::io("compress", "the log", error))
    }
}

/// The beginning and, three times as long, the end of a text.
fn shorten(text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let border = |from: usize| (from..text.len()).find(|at| text.is_char_boundary(*at));
    let head = border(most / 4).unwrap_or(text.len());
    let tail = border(text.len() - most / 4 * 3).unwrap_or(text.len());
    let cut = tail - head;
    format!(
        "{}\n[{cut} bytes are left out here]\n{}",
        &text[..head],
        &text[tail..]
    )
}

#[cfg(all(test, feature = "write"))]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_log_stays_small_and_strict() {
        let output = "ä".repeat(1 << 20) + "end";
        let steps = vec![
            ("one".to_owned(), "short\n".to_owned()),
            ("two".into(), output),
        ];
        let log = BuildLog::new("name".into(), steps.into_iter());
        assert_eq!(log.steps[0].text, "short\n");
        let two = &log.steps[1].text;
        assert!(
            two.len() < MAX_STEP + 99 && two.ends_with("end"),
            "{}",
            two.len()
        );
        assert!(two.contains(" bytes are left out here]\n"));
        let bytes = log.encode().unwrap();
        assert_eq!(BuildLog::decode(&bytes).unwrap(), log);
        let many = vec![("x".to_owned(), "y".repeat(MAX_STEP)); 100];
        let many = BuildLog::new("name".into(), many.into_iter());
        assert!(many.steps.iter().map(|s| s.text.len()).sum::<usize>() < MAX_TEXT + 9999);

        let bomb = zstd::bulk::compress(&vec![b' '; MAX_JSON + 1], 1).unwrap();
        let foreign = zstd::bulk::compress(br#"{"schema":2,"name":"","steps":[]}"#, 1).unwrap();
        let unknown = br#"{"schema":1,"name":"","steps":[],"more":1}"#;
        let unknown = zstd::bulk::compress(unknown, 1).unwrap();
        for bad in [&bytes[..bytes.len() - 1], &bomb, &foreign, &unknown, b""] {
            let error = BuildLog::decode(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
        }
    }
}
