//! What serde alone lets through: other versions, and duplicate keys in maps.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::error::{Error, ErrorKind, Result};

/// The schema that this crate reads and writes.
pub const SCHEMA: u32 = 1;

/// Refuses a manifest of another schema with a message that says so, whatever
/// other fields it has.
pub(super) fn check_schema(json: &[u8]) -> Result<()> {
    struct Schema(Option<u32>);

    impl<'de> serde::Deserialize<'de> for Schema {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_map(SchemaVisitor)
        }
    }

    struct SchemaVisitor;

    impl<'de> Visitor<'de> for SchemaVisitor {
        type Value = Schema;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Schema, A::Error> {
            let mut schema = None;
            while let Some(key) = map.next_key::<String>()? {
                if key == "schema" && schema.is_none() {
                    schema = Some(map.next_value()?);
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(Schema(schema))
        }
    }

    let found: Schema = serde_json::from_slice(json)
        .map_err(|error| Error::corrupt("the manifest", &error).with_source(error))?;
    match found.0 {
        Some(SCHEMA) => Ok(()),
        Some(other) => Err(Error::new(
            ErrorKind::Foreign,
            format!("the manifest has schema {other}; this program reads schema {SCHEMA}"),
        )),
        None => Err(Error::corrupt("the manifest", "it has no schema")),
    }
}

/// How many fields and items a document has, at all depths; `None` where it is no JSON.
pub(super) fn parts(json: &[u8]) -> Option<usize> {
    struct Parts(usize);

    impl<'de> serde::Deserialize<'de> for Parts {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(PartsVisitor)
        }
    }

    struct PartsVisitor;

    impl<'de> Visitor<'de> for PartsVisitor {
        type Value = Parts;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a value")
        }

        fn visit_bool<E>(self, _: bool) -> Result<Parts, E> {
            Ok(Parts(0))
        }

        fn visit_u64<E>(self, _: u64) -> Result<Parts, E> {
            Ok(Parts(0))
        }

        fn visit_i64<E>(self, _: i64) -> Result<Parts, E> {
            Ok(Parts(0))
        }

        fn visit_f64<E>(self, _: f64) -> Result<Parts, E> {
            Ok(Parts(0))
        }

        fn visit_str<E>(self, _: &str) -> Result<Parts, E> {
            Ok(Parts(0))
        }

        fn visit_unit<E>(self) -> Result<Parts, E> {
            Ok(Parts(0))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Parts, A::Error> {
            let mut count = 0;
            while let Some(Parts(inside)) = items.next_element()? {
                count += 1 + inside;
            }
            Ok(Parts(count))
        }

        fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Parts, A::Error> {
            let mut count = 0;
            while let Some((IgnoredAny, Parts(inside))) = fields.next_entry()? {
                count += 1 + inside;
            }
            Ok(Parts(count))
        }
    }

    let found: Parts = serde_json::from_slice(json).ok()?;
    Some(found.0)
}

/// A map in which a key may stand once; serde would quietly keep the last.
pub(super) fn unique_map<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    struct Unique;

    impl<'de> Visitor<'de> for Unique {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of strings")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((key, value)) = access.next_entry::<String, String>()? {
                if let Some(old) = map.insert(key.clone(), value) {
                    let _ = old;
                    return Err(A::Error::custom(format_args!("duplicate key `{key}`")));
                }
            }
            Ok(map)
        }
    }

    deserializer.deserialize_map(Unique)
}
