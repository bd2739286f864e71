//! Hexadecimal digits.

/// The bytes as digits, in lower case.
pub fn encode(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

/// The bytes of digits in either case; `None` if anything else is there, or half a byte.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|&[high, low]| byte(high, low)).collect()
}

/// The byte of two digits in either case.
pub(crate) fn byte(high: u8, low: u8) -> Option<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    Some(digit(high)? << 4 | digit(low)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_come_back_as_bytes() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(encode(&bytes[..17]), "000102030405060708090a0b0c0d0e0f10");
        assert_eq!(decode(&encode(&bytes)), Some(bytes.clone()));
        assert_eq!(decode(&encode(&bytes).to_uppercase()), Some(bytes));
        assert_eq!(decode(""), Some(Vec::new()));
        for wrong in ["a", "abc", "0x", "+f", " 1", "ä"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }
}
