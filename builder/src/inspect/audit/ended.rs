//! Source packages whose security support ended before that of their release: the lists of the
//! package debian-security-support.
//!
//! A line is a source package, the last version with support, a day `YEAR-MONTH-DAY`, and a text,
//! with blanks between them; `.*` in a name stands for anything. As for check-support-status(1),
//! which version is installed does not matter.

use super::report::Ended;
use crate::error::{Error, Result};

/// The package that has the lists.
pub(super) const PACKAGE: &str = "debian-security-support";

/// A line of a list.
struct Line<'l> {
    pattern: &'l str,
    last: &'l str,
    date: &'l str,
    why: String,
}

/// What a list says about these sources, name and version; `name` is how errors call it.
pub(super) fn ended(
    name: &str,
    text: &str,
    sources: &[(&str, &str)],
    now: u64,
) -> Result<Vec<Ended>> {
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        lines.push(parse(line).ok_or_else(|| {
            Error::usage(format!("{name} cannot be used"))
                .detail(format!(
                    "line {number} is not a source, a version and a day such as 2026-12-31"
                ))
                .hint("it should be a security-support-ended.debN of debian-security-support")
        })?);
    }
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let today = jiff::Timestamp::from_second(now).unwrap_or(jiff::Timestamp::MAX);
    let today = today.strftime("%Y-%m-%d").to_string();
    let found = sources.iter().filter_map(|(source, installed)| {
        let line = lines.iter().find(|line| matches(line.pattern, source))?;
        Some(Ended {
            source: (*source).to_owned(),
            installed: (*installed).to_owned(),
            last: line.last.to_owned(),
            date: line.date.to_owned(),
            over: line.date <= today.as_str(),
            why: line.why.clone(),
        })
    });
    Ok(found.collect())
}

fn parse(line: &str) -> Option<Line<'_>> {
    let mut words = line.split_whitespace();
    let (pattern, last, date) = (words.next()?, words.next()?, words.next()?);
    let day: jiff::civil::Date = date.parse().ok()?;
    (day.to_string() == date).then(|| Line {
        pattern,
        last,
        date,
        why: words.collect::<Vec<_>>().join(" "),
    })
}

/// Whether a name is of this pattern, from its first character to its last.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split(".*");
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
# a list\n\nphp-horde.*\t0\t\t2025-03-22\thttps://x.example incompatible\n\
pdns            4.7.3-2                 2026-12-01      not feasible\n";
    const NOW: u64 = 1_796_000_000; // 2026-11-30

    #[test]
    fn what_is_listed_has_ended_or_will() {
        let sources = [
            ("php-horde-core", "1"),
            ("pdns", "4.7"),
            ("pdns-recursor", "4"),
            ("bash", "5"),
        ];
        let found = ended("list", LIST, &sources, NOW).unwrap();
        let said: Vec<_> = found.iter().map(|e| (e.source.as_str(), e.over)).collect();
        assert_eq!(said, [("php-horde-core", true), ("pdns", false)]);
        assert_eq!(found[0].why, "https://x.example incompatible");
        let later = ended("list", LIST, &sources, NOW + 86_400).unwrap();
        assert!(later[1].over, "it is over on its day");
    }

    #[test]
    fn a_pattern_is_of_the_whole_name() {
        for (pattern, name, fits) in [
            ("pdns", "pdns", true),
            ("pdns", "pdns-recursor", false),
            ("php.*", "php8.2", true),
            (".*-horde", "php-horde", true),
            ("a.*b.*c", "axbxc", true),
            ("a.*b.*c", "axc", false),
            ("libstdc++", "libstdc++", true),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn another_file_is_an_error_that_names_the_line() {
        for bad in ["pdns 1", "pdns 1 soon x", "pdns 1 2026-13-01", "{}"] {
            let text = format!("# list\n{bad}\n");
            let error = ended("LIST", &text, &[], NOW).unwrap_err();
            assert_eq!(error.to_string(), "LIST cannot be used");
            assert!(error.causes()[0].starts_with("line 2 is not"), "{bad}");
        }
    }
}
