//! Percent-encoding (RFC 3986, 2.1).

use std::fmt::Write as _;

use crate::hex;

/// The text with each byte as `%41` that is neither unreserved (RFC 3986, 2.3) nor one of `kept`.
pub fn encode(text: &str, kept: &[u8]) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || kept.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The bytes that a text stands for; `None` if a `%` has no two digits behind it.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    decode_with(text, || None)
}

/// The bytes that a text stands for. A `%` without two digits behind it stands for itself.
pub fn decode_leniently(text: &[u8]) -> Vec<u8> {
    decode_with(text, || Some(b'%')).unwrap_or_default()
}

/// `lone` says what a `%` without digits stands for.
fn decode_with(text: &[u8], lone: impl Fn() -> Option<u8>) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let coded = match after {
            [high, low, ..] if first == b'%' => hex::byte(*high, *low),
            _ => None,
        };
        rest = if coded.is_some() { &after[2..] } else { after };
        bytes.push(match (coded, first) {
            (Some(byte), _) => byte,
            (None, b'%') => lone()?,
            (None, plain) => plain,
        });
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_comes_back() {
        let text = "a:b/c d%é~_.-Z9";
        assert_eq!(encode(text, b""), "a%3Ab%2Fc%20d%25%C3%A9~_.-Z9");
        assert_eq!(encode(text, b":/"), "a:b/c%20d%25%C3%A9~_.-Z9");
        assert_eq!(
            decode(encode(text, b"").as_bytes()),
            Some(text.as_bytes().to_vec())
        );
        assert_eq!(decode(b"%3a%3A"), Some(b"::".to_vec()));
    }

    #[test]
    fn a_lone_percent_sign_is_refused_or_stands_for_itself() {
        for text in ["%", "a%", "%4", "%4x", "%+f", "%%41"] {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
        for (text, plain) in [
            ("100%", "100%"),
            ("%4x", "%4x"),
            ("%+f", "%+f"),
            ("%%41", "%A"),
        ] {
            assert_eq!(
                decode_leniently(text.as_bytes()),
                plain.as_bytes(),
                "{text}"
            );
        }
    }
}
