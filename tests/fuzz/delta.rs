//! The rows of deltas' tables: one spelling for one table, within the page's limits. Patches:
//! what an independent reading of the page makes of them, and nothing beyond it.

use crate::memory;

/// The prior content of patches.
const PRIOR: &[u8] = b"what there was before, with some bytes that are the same";

/// The most bytes that a patch may make here.
const MOST: usize = 4096;

pub(crate) fn run(bytes: &[u8]) {
    if let Some((frames, again)) = memory::bounded(bytes, 4096, 64, store::fuzz::delta) {
        assert!(again == bytes, "two spellings of one table");
        assert!(frames <= 1 << 16);
        // A frame takes at least its length, no prior content, and one run.
        assert!(64 + frames * 6 <= bytes.len());
    }
    if let Some(again) = store::fuzz::pair(bytes) {
        assert_eq!(store::fuzz::pair(&again).as_ref(), Some(&again));
    }
    let patch = |bytes: &[u8]| store::fuzz::patch(bytes, PRIOR, MOST);
    let made = memory::bounded(bytes, 4096, 2, patch);
    assert_eq!(made, expected(bytes).filter(|made| made.len() <= MOST));
}

/// What the page says that a patch makes.
fn expected(patch: &[u8]) -> Option<Vec<u8>> {
    let mut rest = patch.iter().copied();
    let count = number(&mut rest)?;
    let (mut ops, mut end) = (Vec::new(), 0_u64);
    for _ in 0..count {
        let (copy, insert, step) = (number(&mut rest)?, number(&mut rest)?, number(&mut rest)?);
        let start = if step % 2 == 0 {
            end + step / 2
        } else {
            end.checked_sub(step.div_ceil(2))?
        };
        end = start + copy;
        if end > PRIOR.len() as u64 || copy + insert == 0 {
            return None;
        }
        ops.push((start as usize..end as usize, insert));
    }
    let rest: Vec<u8> = rest.collect();
    let copied: usize = ops.iter().map(|(copy, _)| copy.len()).sum();
    let (differences, literals) = rest.split_at_checked(copied)?;
    let (mut differences, mut literals) = (differences.iter(), literals.iter());
    let mut made = Vec::new();
    for (copy, insert) in ops {
        for old in &PRIOR[copy] {
            made.push(old.wrapping_add(*differences.next()?));
        }
        for _ in 0..insert {
            made.push(*literals.next()?);
        }
    }
    literals.next().is_none().then_some(made)
}

/// A number of at most 32 bits in its shortest form.
fn number(bytes: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let (mut number, mut shift) = (0_u64, 0);
    loop {
        let byte = bytes.next()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let shortest = shift == 0 || byte != 0;
            let fits = u32::try_from(number).ok();
            return fits.filter(|_| shortest).map(u64::from);
        }
        shift += 7;
        if shift > 28 {
            return None;
        }
    }
}
