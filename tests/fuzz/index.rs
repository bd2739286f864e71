//! Indexes: accepted if and only if the page's grammar allows the bytes, written
//! again as the same bytes, and true to itself.

use store::Blake3;

use crate::memory;

pub(crate) fn run(bytes: &[u8]) {
    check(bytes);
    let body = &bytes[..bytes.len().saturating_sub(32)];
    check(&sealed(body));
    check(&sealed(bytes));
}

/// A body with the checksum that fits it.
pub(crate) fn sealed(body: &[u8]) -> Vec<u8> {
    [body, Blake3::of(body).bytes()].concat()
}

fn check(bytes: &[u8]) {
    let read = memory::bounded(bytes, 4096, 8, store::fuzz::index);
    let model = model(bytes);
    let Some((frames, again)) = read else {
        assert_eq!(model, None, "refused, against the grammar");
        return;
    };
    assert!(again == bytes, "two indexes for one pack");
    let seen: Vec<(u64, u32, usize)> = frames
        .iter()
        .map(|(offset, stored, chunks)| (*offset, *stored, chunks.len()))
        .collect();
    assert_eq!(Some(seen), model);
    let places = store::fuzz::places(bytes).expect("every chunk has a place");
    let mut places = places.into_iter();
    for (number, (.., chunks)) in frames.iter().enumerate() {
        let mut at = 0;
        for chunk in chunks {
            assert_eq!(places.next(), Some((number as u32, at)));
            at += chunk.len() as usize;
        }
        assert!(at <= 4 << 20);
    }
}

/// Offset, length and number of chunks of each frame, straight from the page.
fn model(bytes: &[u8]) -> Option<Vec<(u64, u32, usize)>> {
    let number = |at: usize| {
        let field = bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes(field.try_into().ok()?))
    };
    let end = bytes.len().checked_sub(32)?;
    if bytes[end..] != *Blake3::of(&bytes[..end]).bytes() || !bytes.starts_with(b"imgidx\0\x01") {
        return None;
    }
    let (mut at, mut offset, mut all) = (8 + 32, 8_u64, 0);
    let mut frames = Vec::new();
    let count = number(at).filter(|_| at + 4 <= end)?;
    at += 4;
    while at < end {
        let (stored, chunks) = (number(at)?, number(at + 4)? as usize);
        at += 8;
        if at > end || !(1..=8192).contains(&chunks) || chunks * 36 > end - at {
            return None;
        }
        let mut size = 0;
        for chunk in 0..chunks {
            let len = number(at + 36 * chunk + 32)?;
            if !(1..=262_144).contains(&len) {
                return None;
            }
            size += u64::from(len);
        }
        at += 36 * chunks;
        all += chunks;
        let most = size + size / 256 + 1024;
        if size > 4 << 20 || stored == 0 || u64::from(stored) > most {
            return None;
        }
        frames.push((offset, stored, chunks));
        offset += u64::from(stored);
    }
    let whole = count > 0 && count as usize == frames.len();
    (whole && offset <= 256 << 20 && all <= 1 << 18).then_some(frames)
}
