//! From text to a recipe: TOML read by serde, with its errors in the recipe's own words.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, de};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Fault, RecipeErrorKind};
use super::word::Word;
use super::{Recipe, check};

/// Sections that are there once. A list would be taken for their values in order.
const TABLES: [&str; 6] = [
    "bootstrap",
    "apt",
    "system",
    "service",
    "service.health",
    "clean",
];

/// Reads and checks a recipe; the places of its values are for checks of what lies beside it.
pub(crate) fn read(text: &str) -> Result<(Recipe, Spans<'_>), Fault> {
    let table = DeTable::parse(text).map_err(|error| syntax(&error))?;
    let spans = Spans(DeValue::Table(table.get_ref().clone()));
    for path in TABLES {
        if spans.find(path).is_some_and(DeValue::is_array) {
            return Err(Fault::new(
                spans.at(path),
                format!("`{path}` is a list, but must be a table"),
            )
            .hint(format!("there is only one [{path}]: use single brackets")));
        }
    }
    let mut recipe = Recipe::deserialize(toml::de::Deserializer::from(table))
        .map_err(|error| invalid(&error, text, &spans))?;
    plain("recipe", &spans.0, 0..0)?;
    check::check(&recipe, &spans)?;
    recipe.normalise();
    Ok((recipe, spans))
}

/// Refuses what is wrong whichever key holds it.
fn plain(key: &str, value: &DeValue<'_>, span: Range<usize>) -> Result<(), Fault> {
    match value {
        DeValue::String(text) if text.contains('\0') => {
            Err(Fault::new(span, format!("`{key}` holds a NUL character"))
                .hint("a NUL can be in no argument, no variable and no text file"))
        }
        DeValue::Array(items) if items.is_empty() => {
            Err(Fault::new(span, format!("`{key}` is an empty list"))
                .hint("name at least one, or leave the key out"))
        }
        DeValue::Array(items) => items.iter().try_for_each(|item| match item.get_ref() {
            DeValue::Array(_) => Err(Fault::new(
                item.span(),
                format!("`{key}` has a list in its list"),
            )),
            _ => plain(key, item.get_ref(), item.span()),
        }),
        DeValue::Table(table) => table
            .iter()
            .try_for_each(|(key, value)| plain(key.get_ref(), value.get_ref(), value.span())),
        _ => Ok(()),
    }
}

/// What the TOML parser says, for people.
fn syntax(error: &toml::de::Error) -> Fault {
    let message = error.message();
    let message = message
        .strip_suffix(", expected nothing")
        .unwrap_or(message);
    let hint = match message {
        "unexpected leading zero" => "a file mode is written in quotes: \"0755\"",
        "duplicate key" => "a key is given once; further [[sections]] have two brackets",
        _ => "",
    };
    Fault::new(error.span().unwrap_or(0..0), format!("not TOML: {message}"))
        .kind(RecipeErrorKind::Syntax)
        .hint(hint)
}

/// What serde says, in TOML's words, with the key and with a hint.
fn invalid(error: &toml::de::Error, text: &str, spans: &Spans<'_>) -> Fault {
    // What is missing at the top is missing everywhere.
    let span = error.span().filter(|span| span.len() < text.len());
    let span = span.unwrap_or(0..0);
    let written = text.get(span.clone()).unwrap_or_default();
    if let Some((message, hint)) = error.message().split_once(HINT) {
        return Fault::new(span, message).hint(hint);
    }
    let message = error.message();
    let (what, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    let name = spans.name_at(&span);
    if let Some(key) = what.strip_prefix("unknown field ") {
        let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
        let typed = written.trim_matches(['"', '\'']);
        let hint = match nearest(typed, known.iter().copied()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("the keys there are {}", known.join(", ")),
        };
        return Fault::new(span, format!("unknown key {key} in {name}")).hint(hint);
    }
    if let Some(key) = what.strip_prefix("missing field ") {
        return Fault::new(span, format!("missing key {key} in {name}"));
    }
    let Some(found) = what.strip_prefix("invalid type: ") else {
        return Fault::new(span, message);
    };
    let found = match found.split(' ').next().unwrap_or_default() {
        "string" => "a string",
        "integer" => "an integer",
        "floating" => "a number with a fraction",
        "boolean" => "true or false",
        "sequence" => "a list",
        _ => "a table",
    };
    let hint = match (expected, found) {
        ("a sequence", "a string") => format!("write [{written}]"),
        ("a sequence", "a table") if written.starts_with('[') => {
            format!("write [{written}] with two brackets")
        }
        (_, "an integer") if expected.starts_with("a file mode") => {
            format!("write it in quotes: \"{}\"", octal(written))
        }
        ("a boolean" | "i64", "a string") => "write it without quotes".to_owned(),
        _ => String::new(),
    };
    let expected = match expected {
        "a sequence" => "a list",
        "a boolean" => "true or false",
        "i64" => "an integer",
        "a map" => "a table",
        _ if expected.starts_with("struct") => "a table",
        _ => expected,
    };
    Fault::new(span, format!("{name} is {found}, but must be {expected}")).hint(hint)
}

/// The mode that somebody means who writes a number: 755, and 493 of other programs.
fn octal(typed: &str) -> String {
    let is_octal = typed.len() <= 4 && typed.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let bits = typed.parse::<u32>().ok().filter(|bits| *bits <= 0o7777);
    match bits {
        Some(bits) if !is_octal => format!("{bits:04o}"),
        _ => format!("{typed:0>4}"),
    }
}

/// What stands between message and hint in an error on its way through serde.
pub(super) const HINT: &str = "\nhint: ";

/// Reads a word from a string, for its `Deserialize`.
pub(crate) fn word<'de, D: Deserializer<'de>, T: Word>(deserializer: D) -> Result<T, D::Error> {
    struct Text<T>(PhantomData<T>);
    impl<T: Word> Visitor<'_> for Text<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{} in quotes: {}", T::WHAT, T::SHAPE)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            text.parse()
                .map_err(|unfit: super::Unfit| match &unfit.hint {
                    Some(hint) => E::custom(format_args!("{unfit}{HINT}{hint}")),
                    None => E::custom(unfit),
                })
        }
    }
    deserializer.deserialize_str(Text(PhantomData))
}

/// Where each value of a recipe was written, by paths such as `user[0].uid`.
#[derive(Debug)]
pub(crate) struct Spans<'t>(DeValue<'t>);

impl Spans<'_> {
    /// The values on the way to `path`; none from the first on that is not written.
    fn way(&self, path: &str) -> impl Iterator<Item = Option<&Spanned<DeValue<'_>>>> {
        path.split(['.', '[']).scan(Some(&self.0), |value, part| {
            let found = value.and_then(|value| match part.strip_suffix(']') {
                Some(index) => value.get(index.parse::<usize>().ok()?),
                None => value.get(part),
            });
            *value = found.map(Spanned::get_ref);
            Some(found)
        })
    }

    fn find(&self, path: &str) -> Option<&DeValue<'_>> {
        self.way(path).last().flatten().map(Spanned::get_ref)
    }

    /// What a person calls the value at these bytes, and the section of a key there:
    /// `` `uid` ``, `[bootstrap]`, `[[user]]`.
    fn name_at(&self, span: &Range<usize>) -> String {
        fn look(
            name: &str,
            path: &str,
            value: &DeValue<'_>,
            span: &Range<usize>,
        ) -> Option<String> {
            match value {
                DeValue::Array(items) => items.iter().find_map(|item| {
                    let name = match item.get_ref() {
                        DeValue::Table(_) => format!("[[{path}]]"),
                        _ => format!("an item of {name}"),
                    };
                    let here = item.span() == *span;
                    here.then(|| name.clone())
                        .or_else(|| look(&name, path, item.get_ref(), span))
                }),
                DeValue::Table(table) => table.iter().find_map(|(key, value)| {
                    if key.span() == *span && value.span() != *span {
                        return Some(name.to_owned());
                    }
                    let path = format!("{path}.{}", key.get_ref());
                    let path = path.trim_start_matches('.');
                    let name = match value.get_ref() {
                        DeValue::Table(_) => format!("[{path}]"),
                        _ => format!("`{}`", key.get_ref()),
                    };
                    let here = value.span() == *span;
                    here.then(|| name.clone())
                        .or_else(|| look(&name, path, value.get_ref(), span))
                }),
                _ => None,
            }
        }
        look("the recipe", "", &self.0, span).unwrap_or_else(|| "the recipe".to_owned())
    }

    /// Whether the recipe spells out the value at `path`.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.find(path).is_some()
    }

    /// The bytes of the value at `path`, or of the nearest value around it.
    pub(crate) fn at(&self, path: &str) -> Range<usize> {
        self.way(path).flatten().last().map_or(0..0, Spanned::span)
    }
}

/// The known name nearest to a mistyped one.
pub(crate) fn nearest<'k>(typed: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let typed = typed.to_ascii_lowercase().replace('_', "-");
    known
        .map(|name| (strsim::damerau_levenshtein(&typed, name), name))
        .filter(|(distance, name)| {
            *distance <= name.len().div_ceil(3).max(1)
                || (typed.len() >= 3 && name.starts_with(&typed))
                || (name.len() >= 3 && typed.starts_with(name))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}
