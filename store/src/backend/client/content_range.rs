//! Which part of which object an answer is.

use std::ops::Range;

use reqwest::header::{self, HeaderMap};

/// `Content-Range` (RFC 9110, 14.4).
pub(super) struct Part {
    /// Empty if the server had none of what was asked for.
    pub(super) range: Range<u64>,
    pub(super) size: Option<u64>,
}

/// The part that an answer says it is.
pub(super) fn content_range(headers: &HeaderMap) -> Option<Part> {
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
pub(super) fn validator(headers: &HeaderMap) -> Option<String> {
    let text = |name| Some(headers.get(name)?.to_str().ok()?.to_owned());
    text(header::ETAG)
        .filter(|tag| tag.starts_with('"'))
        .or_else(|| text(header::LAST_MODIFIED))
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
