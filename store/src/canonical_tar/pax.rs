//! PAX records: `LENGTH KEY=VALUE\n`, where `LENGTH` counts itself.

use std::collections::BTreeMap;

use super::ErrorKind;

/// The longest body of a PAX header. Linux limits the extended attributes of one
/// file to 64 KiB of names and 64 KiB for each value; a file that comes near this
/// bound does not exist on any system we build.
pub(super) const MAX_BODY: u64 = 1 << 20;

/// Before the name of an extended attribute.
pub(super) const XATTR: &[u8] = b"SCHILY.xattr.";

/// Records by key. The order of the map is the order in the tar.
pub(super) type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// The body of a PAX header.
pub(super) fn encode(records: &Records) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        // ` `, `=` and newline, then the digits of the length itself, whose number
        // depends on the sum: adding them can carry into one digit more, once.
        let rest = key.len() + value.len() + 3;
        let mut length = rest + digits(rest);
        length = rest + digits(length);
        body.extend_from_slice(length.to_string().as_bytes());
        body.push(b' ');
        body.extend_from_slice(key);
        body.push(b'=');
        body.extend_from_slice(value);
        body.push(b'\n');
    }
    body
}

/// Reads the body of a PAX header. Order, duplicates and leading zeros are not
/// judged here: encoding the result again would not give the same bytes.
pub(super) fn parse(mut body: &[u8]) -> Result<Records, ErrorKind> {
    let mut records = Records::new();
    while !body.is_empty() {
        let (record, rest) = split_record(body).ok_or(ErrorKind::MalformedPax)?;
        let equals = record
            .iter()
            .position(|byte| *byte == b'=')
            .ok_or(ErrorKind::MalformedPax)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        if key.is_empty() || records.insert(key.to_vec(), value.to_vec()).is_some() {
            return Err(ErrorKind::MalformedPax);
        }
        body = rest;
    }
    if records.is_empty() {
        return Err(ErrorKind::MalformedPax);
    }
    Ok(records)
}

/// `KEY=VALUE` of the first record, and what follows it.
pub(crate) fn split_record(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = body.iter().take(8).position(|byte| *byte == b' ')?;
    let mut length = 0_usize;
    for digit in &body[..space] {
        length = length * 10 + usize::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
    }
    let (record, rest) = body.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    Some((record, rest))
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_counts_itself() {
        for value in 0..2000 {
            let records = Records::from([(b"path".to_vec(), vec![b'x'; value])]);
            let body = encode(&records);
            let space = body.iter().position(|byte| *byte == b' ').unwrap();
            let length: usize = std::str::from_utf8(&body[..space])
                .unwrap()
                .parse()
                .unwrap();
            assert_eq!(length, body.len(), "value of {value} bytes");
            assert_eq!(parse(&body), Ok(records));
        }
    }

    #[test]
    fn values_are_any_bytes() {
        let records = Records::from([(
            b"SCHILY.xattr.user.x".to_vec(),
            b"a=b\n\0\xff9 k=v\n".to_vec(),
        )]);
        assert_eq!(parse(&encode(&records)), Ok(records));
    }

    #[test]
    fn malformed_records() {
        for body in [
            &b""[..],
            b"\n",
            b"6 a=b",
            b"7 a=b\n",
            b"5 a=b\n",
            b"-6 a=b\n",
            b" 6 a=b\n",
            b"4 a\n",
            b"5 =b\n",
            b"6 a=b\n6 a=c\n",
            b"99999999999999999999 a=b\n",
            b"0 a=b\n",
            b"1 a=b\n",
            b"6 a=b\n\0",
        ] {
            assert_eq!(
                parse(body),
                Err(ErrorKind::MalformedPax),
                "{:?}",
                body.escape_ascii().to_string()
            );
        }
    }
}
