//! PAX records as other programs write them, and numbers of every dialect.

use crate::canonical_tar::split_pax_record;

/// The longest body of a PAX header that is read: xattrs of 64 KiB each, and the
/// map of a large sparse file in its oldest form.
pub(super) const MAX_BODY: u64 = 8 << 20;

/// The longest name that is read.
pub(super) const MAX_NAME: u64 = 64 << 10;

/// Records in their order; a key may come more than once.
pub(super) type Records = Vec<(Vec<u8>, Vec<u8>)>;

/// The records of a body, or nothing if it is malformed.
pub(super) fn parse(mut body: &[u8]) -> Option<Records> {
    let mut records = Records::new();
    while !body.is_empty() {
        let (record, rest) = split_pax_record(body)?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        if equals == 0 {
            return None;
        }
        records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
        body = rest;
    }
    Some(records)
}

/// The last value of a key: later records take precedence (POSIX pax, "pax
/// Extended Header"). An empty one takes the key back.
pub(super) fn last<'r>(records: &'r Records, key: &[u8]) -> Option<&'r [u8]> {
    let found = records.iter().rev().find(|(name, _)| name == key)?;
    Some(found.1.as_slice()).filter(|value| !value.is_empty())
}

/// A decimal number without a sign.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text)
        .ok()
        .filter(|_| digits)?
        .parse()
        .ok()
}

/// A time: seconds, rounded down to earlier ones, and whether there was a
/// fraction that is not zero.
pub(super) fn time(text: &[u8]) -> Option<(i64, bool)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let whole = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let fraction = fraction.iter().any(|digit| *digit != b'0');
    let whole = match (negative, fraction) {
        (false, _) => whole,
        (true, false) => -whole,
        (true, true) => -whole - 1,
    };
    Some((whole, fraction))
}

/// A number of a header: octal between blanks and NULs, nothing at all, or GNU's
/// base 256, in which it may be negative.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // The sign is bit 6 of the first byte, the number is two's complement.
        let negative = first & 0x40 != 0;
        let mut number: i128 = if negative { -1 } else { 0 };
        number = number << 6 | i128::from(first & 0x3f);
        for byte in rest {
            number = number << 8 | i128::from(*byte);
        }
        return i64::try_from(number).ok();
    }
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !blank(byte));
    let Some(start) = start else { return Some(0) };
    let digits = field[start..].split(blank).next()?;
    digits.iter().try_fold(0_i64, |number, digit| match digit {
        b'0'..=b'7' => Some(number << 3 | i64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_dialect() {
        for (field, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"77777777", Some(0o7777_7777)),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"00x0000\0", None),
            (b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ] {
            assert_eq!(number(field), expected, "{}", field.escape_ascii());
        }
    }

    #[test]
    fn times_round_down() {
        for (text, expected) in [
            ("12", Some((12, false))),
            ("12.000", Some((12, false))),
            ("12.5", Some((12, true))),
            ("-3", Some((-3, false))),
            ("-3.25", Some((-4, true))),
            ("", None),
            ("1e3", None),
            ("1.-2", None),
        ] {
            assert_eq!(time(text.as_bytes()), expected, "{text}");
        }
    }
}
