//! The grammars of words: each a function that says whether a string fits and,
//! where there is a likely reason why not, what to write instead.

use store::{EnvName, ImageName};

/// What a grammar says of a string: fits, or not with an advice (maybe empty).
pub(super) type Verdict = Result<(), String>;

/// Why a string does not fit, where there is more to say than what its like looks like, and what
/// to write instead. Either may be empty.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Advice {
    pub(super) why: String,
    pub(super) hint: String,
}

impl Advice {
    pub(super) fn new(why: impl Into<String>, hint: impl Into<String>) -> Self {
        let (why, hint) = (why.into(), hint.into());
        Self { why, hint }
    }
}

impl<T: Into<String>> From<T> for Advice {
    fn from(hint: T) -> Self {
        Self::new("", hint)
    }
}

/// A verdict without an advice.
pub(super) fn fits(yes: bool) -> Verdict {
    if yes { Ok(()) } else { Err(String::new()) }
}

/// `[first][rest]*`, by byte.
pub(super) fn made_of(text: &str, first: fn(u8) -> bool, rest: fn(u8) -> bool) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(first) && bytes.all(rest)
}

pub(super) fn lower(b: u8) -> bool {
    b.is_ascii_lowercase()
}

pub(super) fn lower_digit(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

pub(super) fn suite(text: &str) -> Verdict {
    let hint = match text {
        "" => "",
        _ if text.ends_with('/') => {
            "a flat archive, which has no suites, is not read: serve its packages under \
             dists/SUITE, or put them beside the recipe and name them under `debs`"
        }
        _ if text.contains(char::is_uppercase) => "suites are written in lower case",
        _ if text.contains("://") => {
            "a recipe names no mirror: say the archive by name and its address on the machine"
        }
        _ => "",
    };
    let parts_fit = text
        .split('/')
        .all(|part| made_of(part, lower_digit, |b| lower_digit(b) || b"+-.".contains(&b)));
    if parts_fit && text.split('/').count() <= 2 {
        Ok(())
    } else {
        Err(hint.to_owned())
    }
}

/// `ENVIRONMENT/NAME[/NUMBER]` or a BLAKE3 digest.
pub(super) fn base(text: &str) -> Verdict {
    if let Some(hex) = text.strip_prefix("blake3:") {
        return fits(
            hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')),
        );
    }
    if text.starts_with("sha256:") {
        return Err("images are named by their BLAKE3 digest: `imgbuild list` shows it".into());
    }
    let mut parts = text.split('/');
    let env = parts
        .next()
        .is_some_and(|env| env.parse::<EnvName>().is_ok());
    let name = parts
        .next()
        .is_some_and(|name| name.parse::<ImageName>().is_ok());
    let number = parts
        .next()
        .is_none_or(|seq| seq.parse::<u64>().is_ok_and(|seq| seq > 0));
    if !env || !name {
        return fits(false);
    }
    fits(number && parts.next().is_none())
}

pub(super) fn label(text: &str) -> Verdict {
    fits(text.len() <= 64 && made_of(text, lower_digit, |b| lower_digit(b) || b == b'-'))
}

pub(super) fn package(text: &str) -> Verdict {
    let (name, arch) = text
        .split_once(':')
        .map_or((text, None), |(n, a)| (n, Some(a)));
    if let Some(name) = name.strip_suffix('-') {
        return Err(format!(
            "to remove a package, write it under `purge`: [\"{name}\"]"
        ));
    }
    if name.contains(char::is_uppercase) {
        return Err("Debian packages are written in lower case".to_owned());
    }
    if text.contains('=') {
        return Err("a version can be named only under `install`".to_owned());
    }
    fits(
        name.len() >= 2
            && made_of(name, lower_digit, |b| lower_digit(b) || b"+-.".contains(&b))
            && arch.is_none_or(|arch| made_of(arch, lower, |b| lower_digit(b) || b == b'-')),
    )
}

pub(super) fn package_spec(text: &str) -> Verdict {
    if text.contains(['<', '>', ' ']) {
        return Err("one version is named as `name=version`; ranges are not known here".to_owned());
    }
    let Some((name, version)) = text.split_once('=') else {
        if text.contains('/') {
            return Err("name the suite with `target-release`".to_owned());
        }
        return package(text);
    };
    if version.starts_with('=') {
        return Err(format!("Debian versions take one `=`: {name}{version}"));
    }
    package(name)?;
    fits(made_of(
        version,
        |b| b.is_ascii_digit(),
        |b| b.is_ascii_alphanumeric() || b".+-~:".contains(&b),
    ))
}

pub(super) fn locale(text: &str) -> Verdict {
    if matches!(text, "C" | "POSIX" | "C.UTF-8") {
        return Ok(());
    }
    let Some((language, charset)) = text.split_once('.') else {
        return Err(format!(
            "say the character set too, most likely `{text}.UTF-8`"
        ));
    };
    let (charset, modifier) = charset
        .split_once('@')
        .map_or((charset, None), |(c, m)| (c, Some(m)));
    let (language, territory) = language
        .split_once('_')
        .map_or((language, None), |(l, t)| (l, Some(t)));
    fits(
        (2..=3).contains(&language.len())
            && made_of(language, lower, lower)
            && territory.is_none_or(|t| t.len() == 2 && t.bytes().all(|b| b.is_ascii_uppercase()))
            && made_of(
                charset,
                |b| b.is_ascii_alphabetic(),
                |b| b.is_ascii_alphanumeric() || b == b'-',
            )
            && modifier.is_none_or(|m| made_of(m, lower, lower_digit)),
    )
}

pub(super) fn time_zone(text: &str) -> Verdict {
    let part = |part: &str| {
        made_of(
            part,
            |b| b.is_ascii_alphabetic(),
            |b| b.is_ascii_alphanumeric() || b"_+-".contains(&b),
        )
    };
    if text.split('/').count() <= 3 && text.split('/').all(part) {
        Ok(())
    } else {
        Err("the names are those of /usr/share/zoneinfo".to_owned())
    }
}

pub(super) fn login(text: &str) -> Verdict {
    fits(
        text.len() <= 32
            && made_of(
                text,
                |b| b.is_ascii_alphabetic() || b == b'_',
                |b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-',
            ),
    )
}

pub(super) fn interpreter(text: &str) -> Verdict {
    if text.starts_with('/') {
        return tree_path(text);
    }
    fits(made_of(
        text,
        |b| b.is_ascii_alphabetic(),
        |b| b.is_ascii_alphanumeric() || b".-".contains(&b),
    ))
}

pub(super) fn tree_path(text: &str) -> Verdict {
    if text == "/" {
        return Ok(());
    }
    let Some(rest) = text.strip_prefix('/') else {
        return Err("paths in the tree begin with `/`".to_owned());
    };
    if text.ends_with('/') {
        return Err(format!(
            "leave out the `/` at the end: {}",
            text.trim_end_matches('/')
        ));
    }
    for part in rest.split('/') {
        match part {
            "" => return Err("write one `/` between two names".to_owned()),
            "." | ".." => return Err(format!("write the path without `{part}`")),
            _ => {}
        }
        if part.len() > 255 {
            return Err("a name in a path has at most 255 bytes".to_owned());
        }
    }
    fits(!text.contains(char::is_control) && text.len() < 4096)
}

pub(super) fn tree_glob(text: &str) -> Verdict {
    if text == "/" || text.starts_with("/*") {
        return Err("this would take the whole tree".to_owned());
    }
    if text
        .split('/')
        .any(|part| part.contains("**") && part != "**")
    {
        return Err("`**` stands alone between two `/`".to_owned());
    }
    tree_path(text)
}

/// Types of debconf's questions, without those that ask nothing.
const QUESTIONS: [&str; 5] = ["string", "boolean", "select", "multiselect", "text"];

/// A line of `debconf-set-selections`.
pub(super) fn answer(text: &str) -> Verdict {
    let mut words = text.split_whitespace();
    let (package_name, question, kind) = (words.next(), words.next(), words.next());
    fits(!text.contains(char::is_control))?;
    fits(package_name.is_some_and(|name| !name.contains(':') && package(name).is_ok()))?;
    fits(question.is_some_and(|question| question.contains('/')))?;
    match kind {
        Some("password") => Err("a recipe holds no secrets".to_owned()),
        Some(kind) if QUESTIONS.contains(&kind) => match words.next() {
            Some(value) if kind == "boolean" && !["true", "false"].contains(&value) => {
                Err("a boolean is `true` or `false`".to_owned())
            }
            _ => Ok(()),
        },
        _ => Err(format!("the types are {}", QUESTIONS.join(", "))),
    }
}

/// A path that stays below where it begins.
pub(super) fn relative(text: &str) -> Verdict {
    fits(!text.is_empty() && !text.starts_with('/'))?;
    tree_path(&format!("/{text}"))
}

pub(super) fn beside(text: &str) -> Verdict {
    const ADVICE: &str = "a recipe uses only what lies beside it: copy the file there";
    if text.starts_with('/') || text.split('/').any(|part| part == "..") {
        return Err(ADVICE.to_owned());
    }
    if text.starts_with("~/") || text == "~" {
        return Err(ADVICE.to_owned());
    }
    if text == "." {
        return Ok(());
    }
    relative(text)
}
