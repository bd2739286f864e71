//! Versions of Python distributions, in the order of PEP 440.
//!
//! What PEP 440 does not know comes before all that it does, in the order of its bytes: an old
//! version that nobody can compare is rather found than passed over.

use std::cmp::Ordering;

/// Compares two versions.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    match (Version::parse(a), Version::parse(b)) {
        (Some(one), Some(other)) => one.cmp(&other),
        (Some(_), None) => Ordering::Greater,
        (None, Some(_)) => Ordering::Less,
        (None, None) => a.trim().cmp(b.trim()),
    }
}

/// A number without leading zeros: its length, then its digits.
type Number = (usize, String);

/// The fields stand in the order in which they are compared.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    epoch: Number,
    /// Without zeros at its end.
    release: Vec<Number>,
    pre: Pre,
    post: Option<Number>,
    dev: Dev,
    local: Option<Vec<Segment>>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Pre {
    /// A development release of what is no pre-release itself.
    BeforeAny,
    A(Number),
    B(Number),
    Rc(Number),
    Final,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Dev {
    Before(Number),
    None,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Text(String),
    Number(Number),
}

/// What pre-releases are called, the longer words before those with which they begin.
const PRE: [(&str, MakePre); 8] = [
    ("alpha", Pre::A),
    ("a", Pre::A),
    ("beta", Pre::B),
    ("b", Pre::B),
    ("preview", Pre::Rc),
    ("pre", Pre::Rc),
    ("rc", Pre::Rc),
    ("c", Pre::Rc),
];

type MakePre = fn(Number) -> Pre;

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        let text = text.strip_prefix('v').unwrap_or(&text);
        let (public, local) = match text.split_once('+') {
            Some((public, local)) => (public, Some(segments(local)?)),
            None => (text, None),
        };
        let (epoch, mut rest) = match public.split_once('!') {
            Some((epoch, rest)) => (number(epoch)?, rest),
            None => (number("0")?, public),
        };
        let mut release = vec![take_number(&mut rest)?];
        while let Some(after) = rest.strip_prefix('.')
            && after.starts_with(|c: char| c.is_ascii_digit())
        {
            rest = after;
            release.push(take_number(&mut rest)?);
        }
        while release.last().is_some_and(|(len, _)| *len == 0) {
            release.pop();
        }
        let mut pre = None;
        for (word, make) in PRE {
            if let Some(number) = take_labelled(&mut rest, &[word]) {
                pre = Some(make(number));
                break;
            }
        }
        let dash = rest
            .strip_prefix('-')
            .filter(|after| after.starts_with(|c: char| c.is_ascii_digit()));
        let post = if let Some(mut after) = dash {
            let found = take_number(&mut after);
            rest = after;
            found
        } else {
            take_labelled(&mut rest, &["post", "rev", "r"])
        };
        let dev = take_labelled(&mut rest, &["dev"]);
        if !rest.is_empty() {
            return None;
        }
        let pre = match (pre, &post, &dev) {
            (Some(pre), ..) => pre,
            (None, None, Some(_)) => Pre::BeforeAny,
            _ => Pre::Final,
        };
        let dev = dev.map_or(Dev::None, Dev::Before);
        Some(Self {
            epoch,
            release,
            pre,
            post,
            dev,
            local,
        })
    }
}

fn number(digits: &str) -> Option<Number> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = digits.trim_start_matches('0');
    Some((digits.len(), digits.to_owned()))
}

fn take_number(rest: &mut &str) -> Option<Number> {
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (digits, after) = rest.split_at(end);
    let found = number(digits)?;
    *rest = after;
    Some(found)
}

/// `[.-_]LABEL[.-_][NUMBER]`; without a number it is 0.
fn take_labelled(rest: &mut &str, labels: &[&str]) -> Option<Number> {
    let separators = ['.', '-', '_'];
    let begun = rest.strip_prefix(separators).unwrap_or(rest);
    let mut after = labels.iter().find_map(|label| begun.strip_prefix(label))?;
    let mut numbered = after.strip_prefix(separators).unwrap_or(after);
    if let Some(found) = take_number(&mut numbered) {
        *rest = numbered;
        return Some(found);
    }
    // A word that only begins so is another one.
    if after.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    std::mem::swap(rest, &mut after);
    number("0")
}

fn segments(local: &str) -> Option<Vec<Segment>> {
    let segment = |text: &str| match number(text) {
        Some(number) => Some(Segment::Number(number)),
        None if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            Some(Segment::Text(text.to_owned()))
        }
        None => None,
    };
    local.split(['.', '-', '_']).map(segment).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order of PEP 440, "Summary of permitted suffixes and relative ordering", and of the
    /// tests of pip's own library.
    #[test]
    fn versions_are_in_the_order_of_pep_440() {
        let ascending = [
            "not a version",
            "1.dev0",
            "1.0.dev456",
            "1.0a1",
            "1.0a2.dev456",
            "1.0a12.dev456",
            "1.0a12",
            "1.0b1.dev456",
            "1.0b2",
            "1.0b2.post345.dev456",
            "1.0b2.post345",
            "1.0rc1.dev456",
            "1.0rc1",
            "1.0",
            "1.0+abc.5",
            "1.0+abc.7",
            "1.0+5",
            "1.0.post456.dev34",
            "1.0.post456",
            "1.0.15",
            "1.1.dev1",
            "1.10",
            "20260901000000000000000000",
            "1!0.1",
        ];
        for (at, a) in ascending.iter().enumerate() {
            for (other, b) in ascending.iter().enumerate() {
                assert_eq!(compare(a, b), at.cmp(&other), "{a} {b}");
            }
        }
    }

    #[test]
    fn one_version_is_written_in_many_ways() {
        for (a, b) in [
            ("1.0", "v1.0.0"),
            ("1.0alpha1", "1.0-a.1"),
            ("1.0c1", "1.0.preview_1"),
            ("1.0-1", "1.0.post1"),
            ("1.0.r1", "1.0.rev1"),
            ("1.0.post", "1.0.post0"),
            ("1.0RC1", " 1.0rc01 "),
            ("1.0+ubuntu-1", "1.0+ubuntu.1"),
        ] {
            assert_eq!(compare(a, b), Ordering::Equal, "{a} {b}");
        }
        for odd in [
            "",
            "1.0-",
            "1.0.x",
            "1..0",
            "1.0+",
            "1.0+a..b",
            "a1",
            "1.0prefix",
        ] {
            assert_eq!(Version::parse(odd), None, "{odd}");
        }
    }
}
