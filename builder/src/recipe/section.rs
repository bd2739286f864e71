//! `section!`: one definition of a section's keys. The struct, the reader, the
//! list of known keys behind "did you mean" and the reference are all made
//! from it, so that none can lag behind the others.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Fault;
use super::field::{Field, Key, Reader, Shape, nearest};

/// Defines a section: a struct, its keys in order, each with its type, its
/// name in TOML and what happens when it is not written:
///
/// - `required`: an error;
/// - `optional`: nothing (`Default::default()`);
/// - `default(EXPRESSION) "in words"`: the expression, which may use the
///   fields defined above it.
macro_rules! section {
    (
        $(#[doc = $about:literal])*
        pub struct $Name:ident $header:literal {
            $(
                $(#[doc = $doc:literal])*
                $field:ident: $Type:ty = $key:literal $how:ident $(($default:expr) $words:literal)?;
            )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
        pub struct $Name {
            $(
                $(#[doc = $doc])*
                #[serde(rename = $key, skip_serializing_if = "crate::recipe::field::Field::is_absent")]
                pub $field: $Type,
            )*
        }

        impl $Name {
            /// The section and all of its keys, for a reference and for hints.
            pub const SHAPE: &'static $crate::recipe::Shape = &$crate::recipe::Shape {
                header: $header,
                doc: concat!($($about, "\n"),*),
                keys: &[$(
                    $crate::recipe::Key {
                        name: $key,
                        takes: <$Type as $crate::recipe::field::Field>::TAKES,
                        default: section!(@words $how $($words)?),
                        doc: concat!($($doc, "\n"),*),
                        section: <$Type as $crate::recipe::field::Field>::SECTION,
                        read: |value| {
                            $crate::recipe::field::Reader::default()
                                .key::<$Type>($key, value)
                                .map(drop)
                        },
                    },
                )*],
            };
        }

        impl $crate::recipe::section::Section for $Name {
            fn from_table(
                table: &toml::de::DeTable<'_>,
                span: &std::ops::Range<usize>,
                reader: &mut $crate::recipe::field::Reader,
            ) -> Result<Self, $crate::recipe::error::Fault> {
                let _ = span;
                $crate::recipe::section::known_keys(table, Self::SHAPE)?;
                $(
                    let $field: $Type = match table.get($key) {
                        Some(value) => reader.key($key, value)?,
                        None => section!(@absent $how span $header $key $($default)?),
                    };
                )*
                Ok($Name { $($field),* })
            }
        }

        impl $crate::recipe::field::Field for $Name {
            const TAKES: &'static str = "a table";
            const LIST: &'static str = "a list of tables";
            const SECTION: Option<&'static $crate::recipe::Shape> = Some(Self::SHAPE);

            fn read(
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                reader: &mut $crate::recipe::field::Reader,
            ) -> Result<Self, $crate::recipe::error::Fault> {
                $crate::recipe::section::read_table(value, reader)
            }
        }
    };
    (@words required) => { None };
    (@words optional) => { Some("none") };
    (@words default $words:literal) => { Some($words) };
    (@absent required $span:ident $header:literal $key:literal) => {
        return Err($crate::recipe::section::missing($span, $header, $key))
    };
    (@absent optional $span:ident $header:literal $key:literal) => { Default::default() };
    (@absent default $span:ident $header:literal $key:literal $default:expr) => { $default };
}
pub(crate) use section;

/// A struct that `section!` made.
pub(crate) trait Section: Field {
    /// Reads it from a table that was written at `span`.
    fn from_table(
        table: &DeTable<'_>,
        span: &std::ops::Range<usize>,
        reader: &mut Reader,
    ) -> Result<Self, Fault>;
}

/// Reads a section from a value that should be a table.
pub(crate) fn read_table<T: Section>(
    value: &Spanned<DeValue<'_>>,
    reader: &mut Reader,
) -> Result<T, Fault> {
    match (value.get_ref(), T::SECTION) {
        (DeValue::Table(table), _) => T::from_table(table, &value.span(), reader),
        (DeValue::Array(_), Some(section)) => Err(reader.mismatch(value, T::TAKES).hint(format!(
            "there is only one {}: use single brackets",
            section.header
        ))),
        _ => Err(reader.mismatch(value, T::TAKES)),
    }
}

/// Refuses the first key that the section does not know.
pub(crate) fn known_keys(table: &DeTable<'_>, shape: &Shape) -> Result<(), Fault> {
    let names = || shape.keys.iter().map(|key: &Key| key.name);
    let unknown = table
        .keys()
        .filter(|key| !names().any(|name| name == key.get_ref().as_ref()))
        .min_by_key(|key| key.span().start);
    let Some(key) = unknown else { return Ok(()) };
    let place = if shape.header.is_empty() {
        "at the top of a recipe".to_owned()
    } else {
        format!("in {}", shape.header)
    };
    let fault = Fault::new(
        key.span(),
        format!("unknown key `{}` {place}", key.get_ref()),
    );
    Err(match nearest(key.get_ref(), names()) {
        Some(name) => fault.hint(format!("did you mean `{name}`?")),
        None => fault.hint(format!(
            "the keys {place} are {}",
            names().collect::<Vec<_>>().join(", ")
        )),
    })
}

/// A key that must be there and is not.
pub(crate) fn missing(span: &std::ops::Range<usize>, header: &str, key: &str) -> Fault {
    let message = if header.is_empty() {
        format!("`{key}` is missing")
    } else {
        format!("`{key}` is missing in {header}")
    };
    Fault::new(span.clone(), message)
}
