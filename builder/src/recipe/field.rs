//! How a TOML value becomes a field: the reader under every section.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Fault;

/// One key of a section, as the code that reads it defines it.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The key as written in a recipe.
    pub name: &'static str,
    /// What it takes: "a string", "a list of tables".
    pub takes: &'static str,
    /// Its default, in words; `None` for a key that must be there.
    pub default: Option<&'static str>,
    /// Meaning, unit and an example, in Markdown.
    pub doc: &'static str,
    /// The section under it, when it is a table or a list of tables.
    pub section: Option<&'static Shape>,
    /// Reads a value as this key does, for [`Key::accepts`].
    pub(crate) read: fn(&Spanned<DeValue<'_>>) -> Result<(), Fault>,
}

impl Key {
    /// The example in its documentation, `key = value`.
    pub fn example(&self) -> Option<&'static str> {
        let (_, rest) = self.doc.split_once("Example: `")?;
        Some(rest.trim_end().strip_suffix('`').unwrap_or(rest))
    }

    /// Whether this line of TOML, `key = value`, gives the key a value that it
    /// takes.
    pub fn accepts(&self, line: &str) -> bool {
        DeTable::parse(line).is_ok_and(|table| {
            table.get_ref().len() == 1
                && table
                    .get_ref()
                    .get(self.name)
                    .is_some_and(|value| (self.read)(value).is_ok())
        })
    }
}

/// A section: its header and the keys it knows.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// As a person writes it: `[bootstrap]`, `[[user]]`.
    pub header: &'static str,
    /// What the section is for.
    pub doc: &'static str,
    /// Every key of it.
    pub keys: &'static [Key],
}

/// A type that a key can hold.
pub(crate) trait Field: Sized {
    /// What the value must be.
    const TAKES: &'static str;
    /// What a list of such values is called.
    const LIST: &'static str;
    /// The section that it is, for tables.
    const SECTION: Option<&'static Shape> = None;

    /// Reads it, or says what is wrong.
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Result<Self, Fault>;

    /// Whether it stands for a key that was not written.
    fn is_absent(&self) -> bool {
        false
    }
}

/// Remembers where in the text each value was written, by its path
/// (`user[0].uid`), for the checks that come after reading.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    path: String,
    key: String,
    spans: HashMap<String, Range<usize>>,
}

impl Reader {
    /// Reads a value under a key of the current section.
    pub(crate) fn key<T: Field>(
        &mut self,
        name: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<T, Fault> {
        let segment = if self.path.is_empty() {
            name.to_owned()
        } else {
            format!(".{name}")
        };
        let outer = std::mem::replace(&mut self.key, name.to_owned());
        let result = self.descend(&segment, value);
        self.key = outer;
        result
    }

    /// Reads the `index`th item of a list.
    fn item<T: Field>(&mut self, index: usize, value: &Spanned<DeValue<'_>>) -> Result<T, Fault> {
        self.descend(&format!("[{index}]"), value)
    }

    fn descend<T: Field>(
        &mut self,
        segment: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<T, Fault> {
        let length = self.path.len();
        self.path.push_str(segment);
        self.spans.insert(self.path.clone(), value.span());
        let result = T::read(value, self);
        self.path.truncate(length);
        result
    }

    /// The wrong type of value under the current key.
    pub(crate) fn mismatch(&self, value: &Spanned<DeValue<'_>>, expected: &str) -> Fault {
        let found = match value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let what = if self.path.ends_with(']') {
            format!("an item of `{}`", self.key)
        } else {
            format!("`{}`", self.key)
        };
        Fault::new(
            value.span(),
            format!("{what} must be {expected}, found {found}"),
        )
    }

    /// The key being read.
    pub(crate) fn current(&self) -> &str {
        &self.key
    }

    /// The places of all values that were read.
    pub(crate) fn into_spans(self) -> Spans {
        Spans(self.spans)
    }
}

/// Where each value of a recipe was written.
#[derive(Debug)]
pub(crate) struct Spans(HashMap<String, Range<usize>>);

impl Spans {
    /// Whether the recipe spells out the value at `path`.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// The bytes of the value at `path`, or of the nearest value around it.
    pub(crate) fn at(&self, path: &str) -> Range<usize> {
        let mut path = path;
        loop {
            if let Some(span) = self.0.get(path) {
                return span.clone();
            }
            match path.rfind(['.', '[']) {
                Some(cut) => path = &path[..cut],
                None => return 0..0,
            }
        }
    }
}

/// The known key nearest to a mistyped one.
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

impl<T: Field> Field for Vec<T> {
    const TAKES: &'static str = T::LIST;
    const LIST: &'static str = "a list of lists";
    const SECTION: Option<&'static Shape> = T::SECTION;

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Result<Self, Fault> {
        let DeValue::Array(items) = value.get_ref() else {
            let fault = reader.mismatch(value, Self::TAKES);
            return Err(match (value.get_ref(), T::SECTION) {
                (DeValue::Table(_), Some(section)) => {
                    fault.hint(format!("write {} with two brackets", section.header))
                }
                (DeValue::String(text), None) => fault.hint(format!("write [\"{text}\"]")),
                _ => fault,
            });
        };
        if items.is_empty() {
            return Err(Fault::new(
                value.span(),
                format!("`{}` is an empty list", reader.current()),
            )
            .hint("name at least one, or leave the key out"));
        }
        items
            .iter()
            .enumerate()
            .map(|(index, item)| reader.item(index, item))
            .collect()
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Field> Field for Option<T> {
    const TAKES: &'static str = T::TAKES;
    const LIST: &'static str = T::LIST;
    const SECTION: Option<&'static Shape> = T::SECTION;

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Result<Self, Fault> {
        T::read(value, reader).map(Some)
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl Field for String {
    const TAKES: &'static str = "a string";
    const LIST: &'static str = "a list of strings";

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Result<Self, Fault> {
        let DeValue::String(text) = value.get_ref() else {
            return Err(reader.mismatch(value, Self::TAKES));
        };
        if text.contains('\0') {
            return Err(Fault::new(
                value.span(),
                format!("`{}` holds a NUL character", reader.current()),
            )
            .hint("a NUL can be in no argument, no variable and no text file"));
        }
        Ok(text.to_string())
    }
}

impl Field for bool {
    const TAKES: &'static str = "true or false";
    const LIST: &'static str = "a list of true or false";

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Result<Self, Fault> {
        match value.get_ref() {
            DeValue::Boolean(flag) => Ok(*flag),
            DeValue::String(text) if matches!(&**text, "true" | "false") => Err(reader
                .mismatch(value, Self::TAKES)
                .hint("write it without quotes")),
            _ => Err(reader.mismatch(value, Self::TAKES)),
        }
    }
}

impl Field for i64 {
    const TAKES: &'static str = "an integer";
    const LIST: &'static str = "a list of integers";

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Result<Self, Fault> {
        let DeValue::Integer(digits) = value.get_ref() else {
            return Err(reader.mismatch(value, Self::TAKES));
        };
        i64::from_str_radix(digits.as_str(), digits.radix()).map_err(|_| {
            Fault::new(
                value.span(),
                format!("`{}` is too large a number", reader.current()),
            )
        })
    }
}

/// Environment variables: names to values.
impl Field for BTreeMap<String, String> {
    const TAKES: &'static str = "a table of strings";
    const LIST: &'static str = "a list of tables of strings";

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Result<Self, Fault> {
        let DeValue::Table(table) = value.get_ref() else {
            return Err(reader.mismatch(value, Self::TAKES));
        };
        let mut variables = BTreeMap::new();
        for (name, value) in table {
            let mut bytes = name.get_ref().bytes();
            let fits = bytes
                .next()
                .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
                && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !fits {
                return Err(Fault::new(
                    name.span(),
                    format!(
                        "`{}` is not the name of an environment variable: \
                         expected letters, digits and `_`, such as `CFLAGS`",
                        name.get_ref()
                    ),
                ));
            }
            let text: String = reader.key(name.get_ref(), value)?;
            variables.insert(name.get_ref().to_string(), text);
        }
        Ok(variables)
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}
