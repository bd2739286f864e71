//! Hints, logs, receipts and keys.

use store::fuzz;

use crate::memory;

pub(crate) fn hint(bytes: &[u8]) {
    let Some(form) = memory::bounded(bytes, 64 << 10, 16, fuzz::hint) else {
        return;
    };
    assert_eq!(fuzz::hint(&form).as_ref(), Some(&form), "one form");
}

/// The input as a log, and as the JSON in one.
pub(crate) fn log(bytes: &[u8]) {
    // What a log decompresses to is bounded by a constant.
    const FIXED: usize = 65 << 20;
    let json = zstd::bulk::compress(bytes, 1).expect("zstd");
    for bytes in [bytes, &json] {
        if let Some((log, form)) = memory::bounded(bytes, FIXED, 64, fuzz::log) {
            assert_eq!(fuzz::log(&form), Some((log, form)), "one form");
        }
    }
}

/// The input as a receipt and a list of nodes, and as the payload of each.
pub(crate) fn receipt(bytes: &[u8]) {
    // An envelope is decoded, parsed and encoded again.
    const EACH: usize = 64;
    for (kind, read) in [
        (
            store::receipt::PAYLOAD_TYPE,
            fuzz::receipt as fn(&[u8]) -> Option<Vec<u8>>,
        ),
        (store::fleet::PAYLOAD_TYPE, fuzz::fleet),
    ] {
        let enveloped = envelope(kind, bytes);
        for input in [bytes, &enveloped] {
            let Some(form) = memory::bounded(input, 64 << 10, EACH, read) else {
                continue;
            };
            assert_eq!(form, input, "one form");
        }
    }
}

/// An envelope around a payload, with a signature of zeros, as it is written.
pub(crate) fn envelope(kind: &str, payload: &[u8]) -> Vec<u8> {
    let text = format!(
        "{{\n  \"payload\": \"{}\",\n  \"payloadType\": \"{kind}\",\n  \"signatures\": [\n    {{\n      \
         \"keyid\": \"00\",\n      \"sig\": \"AAAA\"\n    }}\n  ]\n}}\n",
        base64(payload)
    );
    text.into_bytes()
}

/// The input as a key's file, and as the bytes in one.
pub(crate) fn key(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let armoured = armour(bytes);
    for text in [&text, armoured.as_str()] {
        let same = memory::bounded(text.as_bytes(), 64 << 10, 16, |_| fuzz::key(text));
        assert_ne!(same, Some(false), "another key came back");
    }
}

/// Bytes as base64.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, at| {
            bits << 8 | u32::from(*group.get(at).unwrap_or(&0))
        });
        for digit in 0..4 {
            text.push(match bits >> (18 - 6 * digit) & 63 {
                _ if digit > group.len() => '=',
                value => char::from(DIGITS[value as usize]),
            });
        }
    }
    text
}

/// PEM of a private key with these bytes.
pub(crate) fn armour(der: &[u8]) -> String {
    let text = base64(der);
    let lines: Vec<&str> = (0..text.len())
        .step_by(64)
        .map(|at| &text[at..text.len().min(at + 64)])
        .collect();
    let body = lines.join("\n");
    format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
}
