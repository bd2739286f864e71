//! A patch: how content is made from earlier content, byte by byte.
//!
//! A program that was compiled again is the old one with other addresses in it. What is
//! written down is therefore how bytes differ, which is nothing for most of them, and not
//! only which bytes are the same (as bsdiff does; C. Percival, *Naive Differences of
//! Executable Code*, 2003).

use std::ops::Range;

#[cfg(feature = "write")]
use super::number::{put, put_signed};
use super::number::{take, take_signed};

/// Bytes that are made from a stretch of the earlier content, and bytes that follow them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Op {
    /// The stretch of the earlier content.
    pub(crate) copy: Range<usize>,
    /// How many new bytes follow.
    pub(crate) insert: usize,
}

/// The longest patch that makes so much content: operations never take more than they save.
pub(crate) const fn longest(content: usize) -> usize {
    2 * content + 16
}

/// Makes what a patch describes from `prior`. `fits` is asked how long that may be before
/// anything is made.
pub(crate) fn apply(
    patch: &[u8],
    prior: &[u8],
    fits: impl Fn(usize) -> bool,
) -> Result<Vec<u8>, &'static str> {
    let ops = Ops::of(patch, prior.len()).ok_or("a patch is malformed")?;
    let (mut copied, mut size, mut rest) = (0, 0_u64, ops.clone());
    while let Some(op) = rest.next_op()? {
        copied += op.copy.len();
        size += op.copy.len() as u64 + op.insert as u64;
        // Checked on the way: what comes from outside may say any number.
        if size > rest.input.len() as u64 {
            return Err("a patch is shorter than it says");
        }
    }
    let made = rest.input.len();
    if size < made as u64 {
        return Err("a patch is longer than it says");
    }
    if !fits(made) {
        return Err("a patch makes another size than its chunks have");
    }
    let (mut differences, mut literals) = rest.input.split_at(copied);
    let (mut bytes, mut ops) = (Vec::with_capacity(made), ops);
    while let Some(op) = ops.next_op()? {
        let (these, others) = differences.split_at(op.copy.len());
        let copied = prior[op.copy].iter().zip(these);
        bytes.extend(copied.map(|(old, difference)| old.wrapping_add(*difference)));
        let (new, behind) = literals.split_at(op.insert);
        bytes.extend_from_slice(new);
        (differences, literals) = (others, behind);
    }
    Ok(bytes)
}

/// The patch that makes `fresh` from `prior` in this way.
#[cfg(feature = "write")]
pub(crate) fn encode(ops: &[Op], prior: &[u8], fresh: &[u8]) -> Vec<u8> {
    let mut patch = Vec::with_capacity(fresh.len() + fresh.len() / 16 + 16);
    put(&mut patch, ops.len() as u32);
    let mut end = 0;
    for op in ops {
        put(&mut patch, op.copy.len() as u32);
        put(&mut patch, op.insert as u32);
        put_signed(&mut patch, (op.copy.start as u32).cast_signed() - end);
        end = (op.copy.end as u32).cast_signed();
    }
    let mut literals = Vec::new();
    let mut rest = fresh;
    for op in ops {
        let (copied, behind) = rest.split_at(op.copy.len());
        let differences = copied.iter().zip(&prior[op.copy.clone()]);
        patch.extend(differences.map(|(new, old)| new.wrapping_sub(*old)));
        let (inserted, behind) = behind.split_at(op.insert);
        literals.extend_from_slice(inserted);
        rest = behind;
    }
    patch.extend_from_slice(&literals);
    patch
}

/// The operations of a patch, read one after the other.
#[derive(Clone)]
struct Ops<'a> {
    /// What is behind those that were read.
    input: &'a [u8],
    left: u32,
    /// Where the last one ended in the earlier content, and how long that is.
    end: usize,
    prior: usize,
}

impl<'a> Ops<'a> {
    fn of(mut input: &'a [u8], prior: usize) -> Option<Self> {
        let left = take(&mut input)?;
        Some(Self {
            input,
            left,
            end: 0,
            prior,
        })
    }

    fn next_op(&mut self) -> Result<Option<Op>, &'static str> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.read().map(Some).ok_or("a patch is malformed")
    }

    fn read(&mut self) -> Option<Op> {
        let copy = take(&mut self.input)? as usize;
        let insert = take(&mut self.input)? as usize;
        let step = take_signed(&mut self.input)?;
        let start = self.end.checked_add_signed(step as isize)?;
        self.end = start.checked_add(copy)?;
        let inside = self.end <= self.prior && (copy > 0 || insert > 0);
        inside.then_some(Op {
            copy: start..self.end,
            insert,
        })
    }
}

#[cfg(all(test, feature = "write"))]
mod tests {
    use super::*;

    #[test]
    fn a_patch_makes_what_it_was_made_from() {
        let (prior, fresh) = (b"one two three", b"two thrEe and one");
        let op = |copy, insert| Op { copy, insert };
        let ops = [op(4..13, 5), op(0..3, 0)];
        let patch = encode(&ops, prior, fresh);
        assert_eq!(apply(&patch, prior, |size| size == 17).unwrap(), fresh);
        // Only one byte differs of those that are copied, by 0x20.
        let differences = &patch[patch.len() - 17..patch.len() - 5];
        assert_eq!(differences, [0, 0, 0, 0, 0, 0, 0, 0xe0, 0, 0, 0, 0]);
        assert!(apply(&patch, prior, |_| false).is_err());
        assert!(apply(&patch, &prior[1..], |_| true).is_err());
        for end in 0..patch.len() {
            assert!(apply(&patch[..end], prior, |_| true).is_err(), "{end}");
        }
        let longer = [&patch[..], b"x"].concat();
        assert!(apply(&longer, prior, |_| true).is_err());
    }

    #[test]
    fn what_a_patch_may_not_say() {
        let refused = |patch: &[u8]| apply(patch, b"prior", |_| true).unwrap_err();
        for (patch, why) in [
            (&[][..], "a patch is malformed"),
            // An operation that does nothing, one that begins before the content, one
            // that ends behind it, one that is not there.
            (&[1, 0, 0, 0], "a patch is malformed"),
            (&[1, 1, 0, 1, 0], "a patch is malformed"),
            (&[1, 6, 0, 0, 0, 0, 0, 0, 0, 0], "a patch is malformed"),
            (&[1], "a patch is malformed"),
            // Four billion of them, or of bytes.
            (
                &[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 1, 0, 7],
                "a patch is malformed",
            ),
            (
                &[1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 7],
                "a patch is shorter than it says",
            ),
            (&[1, 0, 1, 0, 7, 7], "a patch is longer than it says"),
        ] {
            assert_eq!(refused(patch), why, "{patch:?}");
        }
        assert_eq!(apply(&[0], b"", |size| size == 0), Ok(Vec::new()));
    }
}
