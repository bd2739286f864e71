//! Versions of Debian packages, in the order of dpkg (deb-version(7)).
//!
//! Whatever a version is, it has its place: nothing here refuses one.

use std::cmp::Ordering;

/// Compares two versions, `[EPOCH:]UPSTREAM[-REVISION]`.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (Parts::of(a), Parts::of(b));
    let number = |text: &str| {
        let digits = text.trim_start_matches('0');
        (digits.len(), digits.to_owned())
    };
    number(a.epoch)
        .cmp(&number(b.epoch))
        .then_with(|| compare_part(a.upstream, b.upstream))
        .then_with(|| compare_part(a.revision, b.revision))
}

struct Parts<'v> {
    epoch: &'v str,
    upstream: &'v str,
    revision: &'v str,
}

impl<'v> Parts<'v> {
    fn of(version: &'v str) -> Self {
        let version = version.trim();
        let (epoch, rest) = version.split_once(':').unwrap_or(("", version));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        Self {
            epoch,
            upstream,
            revision,
        }
    }
}

/// Compares what is no number and what is one, in turns.
fn compare_part(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while !a.is_empty() || !b.is_empty() {
        let (word_a, rest_a) = split(a, |byte| !byte.is_ascii_digit());
        let (word_b, rest_b) = split(b, |byte| !byte.is_ascii_digit());
        for at in 0..word_a.len().max(word_b.len()) {
            let order = weight(word_a.get(at)).cmp(&weight(word_b.get(at)));
            if order.is_ne() {
                return order;
            }
        }
        let (number_a, rest_a) = split(rest_a, u8::is_ascii_digit);
        let (number_b, rest_b) = split(rest_b, u8::is_ascii_digit);
        let (number_a, number_b) = (without_zeros(number_a), without_zeros(number_b));
        let order = number_a
            .len()
            .cmp(&number_b.len())
            .then_with(|| number_a.cmp(number_b));
        if order.is_ne() {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
    Ordering::Equal
}

/// A tilde comes before the end, the end before letters, letters before the rest.
fn weight(byte: Option<&u8>) -> i32 {
    match byte {
        Some(b'~') => -1,
        None => 0,
        Some(letter) if letter.is_ascii_alphabetic() => i32::from(*letter),
        Some(other) => i32::from(*other) + 256,
    }
}

fn split(text: &[u8], belongs: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !belongs(byte));
    text.split_at(end.unwrap_or(text.len()))
}

fn without_zeros(digits: &[u8]) -> &[u8] {
    split(digits, |digit| *digit == b'0').1
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::test_runner::{Config, TestRunner};

    use super::*;

    fn dpkg(a: &str, relation: &str, b: &str) -> bool {
        let mut dpkg = Command::new("dpkg");
        dpkg.args(["--compare-versions", a, relation, b]);
        dpkg.status().unwrap().success()
    }

    fn is_as_dpkg_says(a: &str, b: &str) {
        let relation = match compare(a, b) {
            Ordering::Less => "lt",
            Ordering::Equal => "eq",
            Ordering::Greater => "gt",
        };
        assert!(dpkg(a, relation, b), "{a} {relation} {b}");
        assert_eq!(compare(b, a), compare(a, b).reverse(), "{a} {b}");
    }

    #[test]
    fn versions_of_the_archive_are_in_dpkgs_order() {
        let versions = [
            "1.0",
            "1.0~rc1-1",
            "1.0-1",
            "1.0-1+b1",
            "1.0-1+deb12u1",
            "1.0-1~deb12u1",
            "1.0-1.1",
            "1.00-1",
            "1:0.9-1",
            "0:1.0-1",
            "1.0a-1",
            "1.0+dfsg-1",
            "1.0.1",
            "3.0.17-1~deb12u2",
            "3.0.17-1~deb12u10",
            "2.36-9+deb12u9",
            "5.2.15-2+b7",
            "99999999999999999999999.1",
            "100000000000000000000000.1",
        ];
        for a in versions {
            for b in versions {
                is_as_dpkg_says(a, b);
            }
        }
    }

    #[test]
    fn any_two_versions_are_in_dpkgs_order() {
        let word = "[0-9][0-9a-c.+~]{0,6}";
        let version =
            proptest::string::string_regex(&format!("([0-2]:)?{word}(-[0-9a-c.+~]{{1,4}})?"));
        let version = version.unwrap();
        // A process for each.
        let mut runner = TestRunner::new(Config::with_cases(150));
        let pairs = (version, proptest::string::string_regex(word).unwrap());
        let outcome = runner.run(&pairs, |(a, b)| {
            is_as_dpkg_says(&a, &b);
            Ok(())
        });
        outcome.unwrap();
    }

    #[test]
    fn what_is_no_version_has_a_place_as_well() {
        for odd in ["", ":", "-", "~", "\u{fc}", "a:b-c", "1:2:3"] {
            assert_eq!(compare(odd, odd), Ordering::Equal);
            assert_eq!(compare(odd, "1"), compare("1", odd).reverse());
        }
    }
}
