//! As much of `OpenPGP` as tells why a signature is not accepted (RFC 9580).
//!
//! Nothing is verified here: gpgv or sqv does that. What only one of them says
//! so that a program can read it is looked up in the packets: who signed, and
//! when keys and signatures expire.

use std::collections::BTreeMap;

const CLEARTEXT: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
const SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";

/// A signature packet.
#[derive(Debug, Default)]
pub(super) struct Signature {
    kind: u8,
    created: u64,
    expires_after: u64,
    key_expires_after: u64,
    has_flags: bool,
    issuer: Option<String>,
    embedded: Option<Box<Signature>>,
}

impl Signature {
    /// The key that made it: the last 16 hex digits of its fingerprint.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// The second from which on it counts no more.
    pub(super) fn expires(&self) -> Option<u64> {
        (self.expires_after > 0).then(|| self.created.saturating_add(self.expires_after))
    }
}

/// Keys by the last 16 hex digits of their fingerprints, with the second from
/// which on they are expired.
pub(super) fn keys(keyring: &[u8]) -> BTreeMap<String, Option<u64>> {
    #[derive(Default)]
    struct Key {
        id: Option<String>,
        created: u64,
        // Of the newest signature of its owner.
        signed: u64,
        expires_after: u64,
    }
    fn learn(key: &mut Key, signature: &Signature) {
        if signature.created >= key.signed {
            key.signed = signature.created;
            key.expires_after = signature.key_expires_after;
        }
    }
    let mut keys: Vec<Key> = Vec::new();
    let mut primary = 0;
    for (tag, body) in packets(keyring) {
        match tag {
            6 | 14 => {
                if tag == 6 {
                    primary = keys.len();
                }
                keys.push(Key {
                    created: number(body.get(1..5)),
                    ..Key::default()
                });
            }
            2 => {
                let Some(signature) = signature(body) else {
                    continue;
                };
                match signature.kind {
                    // Others certify as well, but do not say what the key is for.
                    0x10..=0x13 | 0x1f if signature.has_flags => {
                        if let Some(key) = keys.get_mut(primary) {
                            learn(key, &signature);
                            key.id = signature.issuer;
                        }
                    }
                    0x18 => {
                        if let Some(key) = keys.last_mut() {
                            learn(key, &signature);
                            let own = signature.embedded.and_then(|s| s.issuer);
                            key.id = own.or(key.id.take());
                        }
                        if let Some(key) = keys.get_mut(primary) {
                            key.id = signature.issuer.or(key.id.take());
                        }
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
    let expires = |key: &Key| {
        let after = key.expires_after;
        (after > 0).then(|| key.created.saturating_add(after))
    };
    keys.iter()
        .filter_map(|key| Some((key.id.clone()?, expires(key))))
        .collect()
}

/// What a file that should hold public keys holds, if it is something else.
pub(super) fn not_public_keys(keyring: &[u8]) -> Option<&'static str> {
    let mut private = false;
    for (tag, _) in packets(keyring) {
        match tag {
            6 => return None,
            5 => private = true,
            _ => {}
        }
    }
    Some(match (keyring.is_empty(), private) {
        (_, true) => "it holds a private key: export the public one",
        (true, _) => "it holds nothing that OpenPGP knows",
        (false, _) => "it holds no OpenPGP public key",
    })
}

/// The signatures of a detached or cleartext signature, armored or not.
pub(super) fn signatures(bytes: &[u8]) -> Vec<Signature> {
    let text = String::from_utf8_lossy(bytes);
    let bytes = match text.find(SIGNATURE) {
        Some(at) => unarmored(text[at..].as_bytes()),
        None => bytes.to_vec(),
    };
    let found = packets(&bytes);
    found
        .filter(|(tag, _)| *tag == 2)
        .filter_map(|(_, body)| signature(body))
        .collect()
}

/// The text of a message with a cleartext signature.
pub(super) fn cleartext(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines().map(str::trim_end);
    lines.find(|line| *line == CLEARTEXT)?;
    lines.find(|line| line.is_empty())?;
    let mut out = String::new();
    for line in lines {
        if line == SIGNATURE {
            return Some(out);
        }
        out.push_str(line.strip_prefix("- ").unwrap_or(line));
        out.push('\n');
    }
    None
}

/// Binary packets, whether they were armored or not.
pub(super) fn unarmored(bytes: &[u8]) -> Vec<u8> {
    if bytes.first().is_some_and(|first| first & 0x80 != 0) {
        return bytes.to_vec();
    }
    let text = String::from_utf8_lossy(bytes);
    let mut out = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while lines
        .by_ref()
        .any(|line| line.starts_with("-----BEGIN PGP "))
    {
        let _ = lines.by_ref().find(|line| line.is_empty());
        let (mut bits, mut held) = (0u32, 0);
        for line in lines.by_ref() {
            // What follows is the checksum.
            if line.starts_with(['-', '=']) {
                break;
            }
            for digit in line.bytes().filter_map(base64_digit) {
                bits = bits << 6 | digit;
                held += 6;
                if held >= 8 {
                    held -= 8;
                    out.push((bits >> held & 0xff) as u8);
                }
            }
        }
    }
    out
}

fn base64_digit(byte: u8) -> Option<u32> {
    let digit = match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(digit))
}

fn number(bytes: Option<&[u8]>) -> u64 {
    let bytes = bytes.unwrap_or_default();
    bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b))
}

/// Tag and body of each packet, up to what cannot be read.
fn packets(mut rest: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (&first, after) = rest.split_first()?;
        let (tag, len, after) = if first & 0xc0 == 0xc0 {
            let (len, after) = length(after)?;
            (first & 0x3f, len, after)
        } else {
            let width = match first & 0x83 {
                0x80 => 1,
                0x81 => 2,
                0x82 => 4,
                _ => return None,
            };
            (
                first >> 2 & 0x0f,
                number(Some(after.get(..width)?)),
                after.get(width..)?,
            )
        };
        let len = usize::try_from(len).ok()?;
        let body = after.get(..len)?;
        rest = &after[len..];
        Some((tag, body))
    })
}

/// A length of one, two or five octets, as of packets and subpackets.
fn length(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (&first, after) = bytes.split_first()?;
    match first {
        0..=191 => Some((u64::from(first), after)),
        192..=223 => {
            let (&second, after) = after.split_first()?;
            let high = (u64::from(first) - 192) << 8;
            Some((high + u64::from(second) + 192, after))
        }
        255 => Some((number(Some(after.get(..4)?)), after.get(4..)?)),
        _ => None,
    }
}

/// A signature of version 4.
fn signature(body: &[u8]) -> Option<Signature> {
    let [4, kind, _, _, high, low, rest @ ..] = body else {
        return None;
    };
    let hashed = usize::from(*high) << 8 | usize::from(*low);
    let after = rest.get(hashed..)?;
    let unhashed = usize::try_from(number(Some(after.get(..2)?))).ok()?;
    let mut found = Signature {
        kind: *kind,
        ..Signature::default()
    };
    // Expiry counts where it is signed; who it was is only a name.
    subpackets(&mut found, rest.get(..hashed)?, true)?;
    subpackets(&mut found, after.get(2..2 + unhashed)?, false)?;
    Some(found)
}

fn subpackets(found: &mut Signature, mut rest: &[u8], hashed: bool) -> Option<()> {
    while !rest.is_empty() {
        let (len, after) = length(rest)?;
        let len = usize::try_from(len).ok()?;
        let (kind, body) = after.get(..len)?.split_first()?;
        rest = &after[len..];
        match kind & 0x7f {
            2 if hashed => found.created = number(Some(body)),
            3 if hashed => found.expires_after = number(Some(body)),
            9 if hashed => found.key_expires_after = number(Some(body)),
            27 if hashed => found.has_flags = true,
            16 | 33 if body.len() >= 8 => {
                let id = body[body.len() - 8..].iter();
                found.issuer = Some(id.map(|b| format!("{b:02X}")).collect());
            }
            32 => found.embedded = signature(body).map(Box::new),
            _ => {}
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by gpg on 1 January 2025, for 30 days.
    const KEY: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEZ3SFgBYJKwYBBAHaRw8BAQdATmKDU98qZ5foLmuQIwFpie+JVu8wa0joNYBm
nIEUisS0B2V4cGlyZWSIlgQTFggAPhYhBE8m049yqMkamhgjcCpluG1+v27aBQJn
dIWAAhsDBQkAJ40ABQsJCAcCBhUKCQgLAgQWAgMBAh4BAheAAAoJECpluG1+v27a
5T0BAI4lYGY/Bppe7KsagRLQwRxiCrnHNGNh1gEy9x1PNsRyAQCpBCEK7aWD+U3s
Ksrk8KIlRtRwaiT8zF/Ew1M267j0Bw==
=4aP3
-----END PGP PUBLIC KEY BLOCK-----
";
    const SIGNED: &str = "-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA256

Origin: x
- - dash
-----BEGIN PGP SIGNATURE-----

iHUEARYIAB0WIQRPJtOPcqjJGpoYI3AqZbhtfr9u2gUCZ4BjAAAKCRAqZbhtfr9u
2m68AQD+0EdNRJ3Lep/LtK3TMu3hFK5cRTlxxOJRhLNyMtDCgQEAk+ta7NDsZj+K
4KJS3EbXACPFXCVV7EOZ2xgLzCszcA4=
=Byq0
-----END PGP SIGNATURE-----
";
    const ID: &str = "2A65B86D7EBF6EDA";

    #[test]
    fn keys_and_signatures_name_themselves_and_their_end() {
        let binary = unarmored(KEY.as_bytes());
        assert_eq!(unarmored(&binary), binary);
        let expected = BTreeMap::from([(ID.to_owned(), Some(1_738_281_600))]);
        assert_eq!(keys(&binary), expected);
        let found = signatures(SIGNED.as_bytes());
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].issuer(), found[0].expires()), (Some(ID), None));
        assert_eq!(
            cleartext(SIGNED.as_bytes()).as_deref(),
            Some("Origin: x\n- dash\n")
        );
    }

    #[test]
    fn what_is_cut_or_changed_is_no_panic() {
        let binary = unarmored(KEY.as_bytes());
        for len in 0..binary.len() {
            let _ = keys(&binary[..len]);
            let mut changed = binary.clone();
            changed[len] ^= 0xff;
            let _ = keys(&changed);
        }
        for len in 0..SIGNED.len() {
            let _ = signatures(&SIGNED.as_bytes()[..len]);
            let _ = cleartext(&SIGNED.as_bytes()[..len]);
        }
        assert!(signatures(b"<html>").is_empty() && cleartext(b"<html>").is_none());
    }
}
