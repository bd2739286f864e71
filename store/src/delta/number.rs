//! Numbers of up to 32 bits in groups of seven, the lowest first (LEB128).

/// Reads a number that is written in its shortest form.
pub(super) fn take(input: &mut &[u8]) -> Option<u32> {
    let mut number = 0_u32;
    for shift in (0..35).step_by(7) {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        let bits = u32::from(byte & 0x7f);
        let shifted = bits.checked_shl(shift)?;
        if shifted >> shift != bits || (byte == 0 && shift > 0) {
            return None;
        }
        number |= shifted;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Reads a number that may be below zero: even for 2n: n, odd for 2n - 1: -n.
pub(super) fn take_signed(input: &mut &[u8]) -> Option<i32> {
    let number = take(input)?;
    Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
}

/// Writes a number.
#[cfg(feature = "write")]
pub(super) fn put(raw: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        raw.push(number as u8 | 0x80);
        number >>= 7;
    }
    raw.push(number as u8);
}

/// Writes a number that may be below zero.
#[cfg(feature = "write")]
pub(super) fn put_signed(raw: &mut Vec<u8>, number: i32) {
    put(raw, ((number << 1) ^ (number >> 31)).cast_unsigned());
}

#[cfg(all(test, feature = "write"))]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_form() {
        for number in [0, 1, 127, 128, 16_383, 16_384, u32::MAX] {
            let mut raw = Vec::new();
            put(&mut raw, number);
            let mut input = &raw[..];
            assert_eq!(take(&mut input), Some(number));
            assert!(input.is_empty());
        }
        for number in [0, 1, -1, 12_345, -12_345, i32::MAX, i32::MIN] {
            let mut raw = Vec::new();
            put_signed(&mut raw, number);
            assert_eq!(take_signed(&mut &raw[..]), Some(number));
        }
        for wrong in [
            &[][..],
            &[0x80],
            &[0x80, 0],
            &[0xff; 5],
            &[0xff, 0xff, 0xff, 0xff, 0x1f],
        ] {
            assert_eq!(take(&mut &wrong[..]), None, "{wrong:?}");
        }
    }
}
