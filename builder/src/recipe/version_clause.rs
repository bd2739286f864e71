//! One clause of a requirement's versions, such as `>=3` (PEP 440).
//!
//! A version that is none by PEP 440 passes as far as a pip before 24.1 knows what to make of
//! it: there may be such a release. Refused is what each pip refuses or reads as something else.

use super::grammar::{Advice, fits};
use super::marker;

const OPERATORS: [&str; 8] = ["===", "==", "~=", "!=", "<=", ">=", "<", ">"];

/// A version by PEP 440, perhaps with `.*` at its end.
struct Version<'v> {
    /// The version without its ending.
    public: &'v str,
    /// How many numbers its release has.
    numbers: usize,
    /// Whether nothing follows the release.
    is_final: bool,
    is_dev: bool,
    ending: Ending,
}

/// What only some operators take at the end of a version.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    None,
    /// `.*`
    Star,
    /// `+LOCAL`
    Local,
    /// `+LOCAL.*`, which none takes.
    Both,
}

/// Says whether a clause is one, else what is wrong and what to write.
pub(super) fn check(clause: &str) -> Result<(), Advice> {
    let operator = OPERATORS.iter().find(|sign| clause.starts_with(**sign));
    let Some(operator) = operator.copied() else {
        return Err(without_operator(clause));
    };
    let version = clause[operator.len()..].trim();
    if version.is_empty() {
        return Err(Advice::new(
            format!("no version follows `{operator}`"),
            "without a limit, the project's name stands alone",
        ));
    }
    if operator == "===" {
        // It is compared as text, so that anything may be meant.
        let is_odd = |b: u8| !b.is_ascii_graphic() || b";()\"'".contains(&b);
        return Ok(fits(!version.bytes().any(is_odd))?);
    }
    match Version::of(version) {
        Some(version) => check_use(clause, operator, &version),
        None => check_other(clause, operator, version),
    }
}

/// Whether pip can compare something with this version by `~=`.
pub(super) fn is_compatible(version: &str) -> bool {
    Version::of(version.trim())
        .is_some_and(|version| version.numbers >= 2 && version.ending == Ending::None)
}

/// Whether the operator takes such a version.
fn check_use(clause: &str, operator: &str, version: &Version<'_>) -> Result<(), Advice> {
    let public = version.public;
    let takes_all = matches!(operator, "==" | "!=");
    if operator == "~=" && version.numbers < 2 {
        let hint = if version.is_final {
            write(&format!("~={public}.0"))
        } else {
            String::new()
        };
        return Err(Advice::new(
            format!("`~=` needs a version of two numbers at least, and `{clause}` has one"),
            hint,
        ));
    }
    match version.ending {
        Ending::None => Ok(()),
        Ending::Star if takes_all && !version.is_dev => Ok(()),
        Ending::Local if takes_all => Ok(()),
        Ending::Star if takes_all => Err(Advice::new(
            format!("`.*` in `{clause}` follows a development release"),
            write(&format!("{operator}{public}")),
        )),
        Ending::Both => Err(Advice::new(
            format!("`.*` in `{clause}` follows a local version"),
            write(&format!("{operator}{public}")),
        )),
        Ending::Local => Err(Advice::new(
            format!("only == and != take a local version, the part behind `+` in `{clause}`"),
            write(&format!("{operator}{public}")),
        )),
        Ending::Star => {
            // `<=3.*` means each 3.x too.
            let instead = match operator {
                "<=" => next(public).map(|next| format!("<{next}")),
                ">" => next(public).map(|next| format!(">={next}")),
                "~=" => Some(format!("=={public}.*")),
                _ => Some(format!("{operator}{public}")),
            };
            Err(Advice::new(
                format!("only == and != take `.*`, which ends `{clause}`"),
                instead.map_or(String::new(), |instead| write(&instead)),
            ))
        }
    }
}

fn write(clause: &str) -> String {
    format!("write `{clause}`")
}

/// The least version that does not begin with this one.
fn next(release: &str) -> Option<String> {
    let at = release.rfind(['.', '!']).map_or(0, |at| at + 1);
    let (before, last) = release.split_at(at);
    let last: u64 = last.parse().ok()?;
    Some(format!("{before}{}", last.checked_add(1)?))
}

/// Looks at a version that is none by PEP 440.
fn check_other(clause: &str, operator: &str, version: &str) -> Result<(), Advice> {
    if version.starts_with(['<', '>', '=', '!', '~']) {
        return Err(without_operator(clause));
    }
    let second = version
        .char_indices()
        .find(|&(at, c)| "<>=~".contains(c) || version[at..].starts_with("!="));
    if let Some((at, _)) = second {
        let (first, second) = version.split_at(at);
        let first = first.trim();
        return Err(match first.split_once(char::is_whitespace) {
            None if !second.contains(char::is_alphanumeric) => more_than_one(clause, second),
            None => Advice::new(
                format!("no comma separates the limits of `{clause}`"),
                write(&format!("{operator}{first},{second}")),
            ),
            Some((_, word)) => more_than_one(clause, word.trim()),
        });
    }
    if let Some((_, more)) = version.split_once(char::is_whitespace) {
        let word = more.split_whitespace().next().unwrap_or_default();
        return Err(more_than_one(clause, word));
    }
    if version.trim_matches(['.', '*']).is_empty() {
        return Err(Advice::new(
            format!("`{clause}` has no version"),
            "leave it out: any version fits then",
        ));
    }
    if version.contains('*') {
        let begun = version.trim_end_matches(['.', '*']);
        let hint = match Version::of(begun) {
            Some(_) if matches!(operator, "==" | "!=") => write(&format!("{operator}{begun}.*")),
            Some(_) => write(&format!("{operator}{begun}")),
            None => String::new(),
        };
        return Err(Advice::new(
            format!("`*` stands only at the end, after a `.`, other than in `{clause}`"),
            hint,
        ));
    }
    if operator == "~=" {
        return Err(Advice::new(
            format!("`~=` needs a version such as `1.4` or `2.0.1`, other than `{clause}`"),
            "",
        ));
    }
    let is_usual = |b: u8| b.is_ascii_alphanumeric() || b".-_+".contains(&b);
    if version.bytes().all(is_usual) && version.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Ok(());
    }
    Err(Advice::new(
        format!("`{version}` in `{clause}` is no version"),
        "versions look like 1.0, 2.0rc1 or 1!3.0.post1",
    ))
}

/// A word follows a version.
fn more_than_one(clause: &str, word: &str) -> Advice {
    if marker::is_name(word) {
        return condition(word);
    }
    Advice::new(
        format!("`{clause}` is more than an operator and a version"),
        "limits are separated by commas",
    )
}

fn condition(name: &str) -> Advice {
    Advice::new(
        format!("no `;` stands before the condition `{name} ...`"),
        format!("write `; {name} ...`"),
    )
}

/// What to write instead of a clause without an operator that pip knows.
fn without_operator(clause: &str) -> Advice {
    if clause.is_empty() {
        return Advice::new("no limit stands beside a comma", "leave that comma out");
    }
    if clause.starts_with(['(', ')']) {
        return Advice::new("the `(` before the versions is not closed by `)`", "");
    }
    let end = clause
        .find(|c: char| c.is_ascii_alphanumeric())
        .unwrap_or(clause.len());
    let (signs, version) = clause.split_at(end);
    let version = version.trim();
    let signs: String = signs.split_whitespace().collect();
    if signs.starts_with('-') {
        return "pip's options stand in a file of `requirements-files`".into();
    }
    let unknown = || format!("`{clause}` has no operator that pip knows");
    let instead = match signs.as_str() {
        "" => {
            let is_end = |c: char| !c.is_ascii_alphanumeric() && !"_.".contains(c);
            let word = version.split(is_end).next().unwrap_or_default();
            if marker::is_name(word) {
                return condition(word);
            }
            let hint = match Version::of(version) {
                Some(_) => write(&format!("=={version}")),
                None => String::new(),
            };
            return Advice::new(format!("no operator stands before `{version}`"), hint);
        }
        "<!" | "!<" | ">!" | "!>" => {
            let sign = signs.trim_matches('!');
            return Advice::new(
                unknown(),
                format!("write `{sign}{version}` or `!={version}`"),
            );
        }
        "^" | "~" => {
            return Advice::new(
                unknown(),
                format!("write both limits, as `>={version},<NEXT`"),
            );
        }
        "=" => "==",
        "=>" | ">==" | "≥" => ">=",
        "=<" | "<==" | "≤" => "<=",
        "!" | "=!" | "!==" | "==!" | "<>" | "≠" => "!=",
        "=~" | "~==" => "~=",
        "<<" => "<",
        ">>" => ">",
        known if OPERATORS.contains(&known) => known,
        _ => "",
    };
    let hint = if instead.is_empty() || version.is_empty() {
        format!("the operators are {}", OPERATORS.join(", "))
    } else {
        write(&format!("{instead}{version}"))
    };
    Advice::new(unknown(), hint)
}

impl<'v> Version<'v> {
    fn of(text: &'v str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        let (version, is_prefix) = match lower.strip_suffix(".*") {
            Some(version) => (version, true),
            None => (lower.as_str(), false),
        };
        let (public, local) = match version.split_once('+') {
            Some((public, local)) => (public, Some(local)),
            None => (version, None),
        };
        let is_label =
            |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric());
        if local.is_some_and(|local| !local.split(['-', '_', '.']).all(is_label)) {
            return None;
        }
        let mut rest = public.strip_prefix('v').unwrap_or(public);
        if let Some((epoch, release)) = rest.split_once('!') {
            if epoch.is_empty() || !without_digits(epoch).is_empty() {
                return None;
            }
            rest = release;
        }
        let mut numbers = 0;
        loop {
            let after = without_digits(rest);
            if after.len() == rest.len() {
                return None;
            }
            numbers += 1;
            rest = after;
            match rest.strip_prefix('.') {
                Some(more) if more.starts_with(|c: char| c.is_ascii_digit()) => rest = more,
                _ => break,
            }
        }
        let is_final = rest.is_empty();
        // The longer of two that begin alike comes first.
        let pre = ["alpha", "beta", "preview", "pre", "a", "b", "c", "rc"];
        rest = without_phase(rest, &pre);
        rest = match rest.strip_prefix('-') {
            Some(more) if more.starts_with(|c: char| c.is_ascii_digit()) => without_digits(more),
            _ => without_phase(rest, &["post", "rev", "r"]),
        };
        let before = rest.len();
        rest = without_phase(rest, &["dev"]);
        rest.is_empty().then_some(Self {
            public: &text[..public.len()],
            numbers,
            is_final,
            is_dev: before > 0,
            ending: match (is_prefix, local) {
                (false, None) => Ending::None,
                (true, None) => Ending::Star,
                (false, Some(_)) => Ending::Local,
                (true, Some(_)) => Ending::Both,
            },
        })
    }
}

fn without_digits(text: &str) -> &str {
    text.trim_start_matches(|c: char| c.is_ascii_digit())
}

/// What follows one of these words, its number and a separator before each, if one is there.
fn without_phase<'t>(text: &'t str, words: &[&str]) -> &'t str {
    const SEPARATORS: [char; 3] = ['-', '_', '.'];
    let begun = text.strip_prefix(SEPARATORS).unwrap_or(text);
    match words.iter().find_map(|word| begun.strip_prefix(word)) {
        Some(rest) => without_digits(rest.strip_prefix(SEPARATORS).unwrap_or(rest)),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_some_pip_takes_is_taken() {
        for clause in [
            "==1.0",
            "== 1.0",
            "==v1.0",
            "==V1.0",
            "==1!2.0",
            ">=1!2.0.post1",
            "==1.0A1",
            "==1.0-ALPHA_1",
            "==1.0.Beta.2",
            "==1.0pre1",
            "==1.0preview",
            "==1.0c1",
            ">=1.0rc",
            ">=1.0r1",
            ">=1.0-rev_3",
            ">=1.0-1",
            ">=1.0.post",
            ">=1.0a1.post2.dev3",
            "<2.0.dev",
            "<2.0.dev0",
            "==2013b",
            "==1.*",
            "!=1.*",
            "==1!1.2.*",
            "==1.0rc1.*",
            "==2.0+cu118",
            "!=2.0+Ubuntu-1_2.3",
            "~=1.4",
            "~=1.4.5a4",
            "~=2.2.post3",
            "~=v2.0",
            "===1.0",
            "===whatever_it-is!~x",
            "=== 1.0-SNAPSHOT",
            ">=1.0-custom",
            "==1.0-SNAPSHOT",
            "==latest",
            "<0.5dev-r1234",
            ">=3.",
            ">=20150101-x",
        ] {
            check(clause).unwrap_or_else(|advice| panic!("{clause}: {advice:?}"));
        }
    }

    #[test]
    fn what_no_pip_takes_is_answered_with_what_to_write() {
        for (clause, said) in [
            ("<!3", "`<3` or `!=3`"),
            (">!3", "`>3` or `!=3`"),
            ("==", "follows `==`"),
            ("===", "follows `===`"),
            (">", "follows `>`"),
            ("=1.0", "`==1.0`"),
            ("= 1.0", "`==1.0`"),
            ("=>3", "`>=3`"),
            ("=<3", "`<=3`"),
            ("> =3", "`>=3`"),
            (">==3", "`>=3`"),
            ("<>3", "`!=3`"),
            ("!==3", "`!=3`"),
            ("==!3", "`!=3`"),
            ("!3", "`!=3`"),
            ("≥3", "`>=3`"),
            ("^1.2", ">=1.2"),
            ("~1.2", ">=1.2"),
            ("%3", "===, ==, ~="),
            (">= 1.0 <2", "`>=1.0,<2`"),
            (">=1.0<2", "`>=1.0,<2`"),
            (">=1.0 != 1.5", "`>=1.0,!= 1.5`"),
            (">=1.0 2", "separated by commas"),
            (">=1.0<", "more than"),
            (">=1.0 python_version < '3'", "`;`"),
            (">=1.0 os_name in 'posix'", "`;`"),
            ("python_version < '3'", "`;`"),
            ("1.0", "==1.0"),
            ("", "beside a comma"),
            ("(>=3", "closed by `)`"),
            ("~=3", "`~=3.0`"),
            ("~=3.*", "`~=3.0`"),
            ("~=3.1.*", "`==3.1.*`"),
            ("~=3rc1", "two numbers"),
            ("~=1.0+local", "`~=1.0`"),
            ("~=1.0-custom", "such as `1.4`"),
            (">=3.*", "`>=3`"),
            ("<3.1.*", "`<3.1`"),
            ("<=3.*", "`<4`"),
            ("<=1!3.1.*", "`<1!3.2`"),
            (">3.1.*", "`>=3.2`"),
            ("==1.0.*.1", "only at the end"),
            ("==1.0*", "`==1.0.*`"),
            (">=1.0*", "`>=1.0`"),
            ("==*", "leave it out"),
            (">=*", "leave it out"),
            ("==1.0.dev1.*", "`==1.0.dev1`"),
            ("==1.0+a.*", "`==1.0`"),
            (">=2.0+cu118", "`>=2.0`"),
            (">2022.4foo!", "is no version"),
            ("==.5", "is no version"),
        ] {
            match check(clause) {
                Ok(()) => panic!("{clause} was taken"),
                Err(Advice { why, hint }) => {
                    assert!(
                        format!("{why}: {hint}").contains(said),
                        "{clause}: {why}: {hint}"
                    );
                }
            }
        }
    }
}
