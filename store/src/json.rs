//! JSON as metadata needs it: read strictly, written canonically.
//!
//! A signature covers the *canonical* form of a document (OLPC canonical JSON,
//! TUF 4.2.1: keys sorted, no blanks, integers only, in strings nothing escaped
//! but `"` and `\`), while what travels is any JSON that means the same. So a
//! document is first parsed to a value and then canonicalised, and everything
//! hangs on both sides seeing the same value. JSON leaves room for doubt in
//! three places; [`parse`] closes them:
//!
//! - a key that occurs twice: which one was meant? Refused.
//! - numbers with a fraction or an exponent, or too large: refused.
//! - nesting without end: refused beyond [`MAX_DEPTH`]. TUF needs eight levels.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Deeper documents are refused.
pub const MAX_DEPTH: u32 = 32;

/// Why a document was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It is not JSON; the text says where.
    Syntax(String),
    /// A key occurs twice in one object.
    DuplicateKey(String),
    /// A number that is not an integer of 64 bits.
    Number,
    /// Nested deeper than [`MAX_DEPTH`].
    Depth,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(text) => write!(f, "it is not valid JSON: {text}"),
            Self::DuplicateKey(key) => write!(f, "the JSON key {key:?} occurs twice"),
            Self::Number => f.write_str("a JSON number is not a 64-bit integer"),
            Self::Depth => write!(f, "the JSON is nested deeper than {MAX_DEPTH} levels"),
        }
    }
}

impl std::error::Error for Fault {}

/// Parses a document that leaves no room for doubt.
pub fn parse(bytes: &[u8]) -> Result<Value, Fault> {
    let fault = Cell::new(None);
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let strict = Strict {
        depth: 0,
        fault: &fault,
    };
    let value = strict
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|e| fault.take().unwrap_or_else(|| Fault::Syntax(e.to_string())))
}

/// The canonical form of a value: the bytes that signatures cover.
///
/// Fractions have no canonical form; [`parse`] lets none in, and the types of
/// this crate hold none.
pub fn canonical(value: &Value) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::new();
    write(value, &mut out)?;
    Ok(out)
}

fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), Fault> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(b) => out.extend_from_slice(if *b { b"true" } else { b"false" }),
        Value::Number(n) if n.is_f64() => return Err(Fault::Number),
        Value::Number(n) => out.extend_from_slice(n.to_string().as_bytes()),
        Value::String(s) => quote(s, out),
        Value::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(map) => {
            // Sorted here and not trusted to be: whether serde_json's map
            // sorts depends on a feature that any crate can switch on.
            let mut pairs: Vec<_> = map.iter().collect();
            pairs.sort_unstable_by_key(|(key, _)| key.as_str());
            out.push(b'{');
            for (i, (key, item)) in pairs.into_iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                quote(key, out);
                out.push(b':');
                write(item, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn quote(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text.as_bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// Builds a value and notes what was wrong with it: serde's own errors are
/// texts, and callers want to know which rule was broken.
#[derive(Clone, Copy)]
struct Strict<'a> {
    depth: u32,
    fault: &'a Cell<Option<Fault>>,
}

impl Strict<'_> {
    fn refuse<E: serde::de::Error>(self, fault: Fault) -> E {
        let e = E::custom(&fault);
        self.fault.set(Some(fault));
        e
    }

    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(self.refuse(Fault::Depth));
        }
        Ok(Self {
            depth: self.depth + 1,
            ..self
        })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
        Ok(Value::Bool(b))
    }

    fn visit_i64<E>(self, n: i64) -> Result<Value, E> {
        Ok(n.into())
    }

    fn visit_u64<E>(self, n: u64) -> Result<Value, E> {
        Ok(n.into())
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Value, E> {
        Err(self.refuse(Fault::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(self.refuse(Fault::DuplicateKey(key)));
            }
            let value = entries.next_value_seed(inner)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical_of(text: &str) -> String {
        String::from_utf8(canonical(&parse(text.as_bytes()).unwrap()).unwrap()).unwrap()
    }

    /// What securesystemslib's `encode_canonical` makes of the same values.
    #[test]
    fn writes_what_securesystemslib_writes() {
        for (text, expected) in [
            (
                r#" { "b" : 1, "a" : [ true , false, null ] } "#,
                r#"{"a":[true,false,null],"b":1}"#,
            ),
            (r#"{"a":{"z":-1,"y":{}}}"#, r#"{"a":{"y":{},"z":-1}}"#),
            ("18446744073709551615", "18446744073709551615"),
            (
                "\"line\\nquote\\\"back\\\\\"",
                "\"line\nquote\\\"back\\\\\"",
            ),
            ("\"\\u00f6\\ud83e\\udd80\"", "\"ö🦀\""),
            (r#"{"é":1,"z":2,"Z":3}"#, r#"{"Z":3,"z":2,"é":1}"#),
        ] {
            assert_eq!(canonical_of(text), expected);
        }
    }

    #[test]
    fn refuses_what_could_be_read_in_two_ways() {
        let fault = |text: &str| parse(text.as_bytes()).unwrap_err();
        assert_eq!(
            fault(r#"{"a":1,"b":2,"a":1}"#),
            Fault::DuplicateKey("a".into())
        );
        assert_eq!(
            fault(r#"[{"a":{"b":1,"\u0062":2}}]"#),
            Fault::DuplicateKey("b".into())
        );
        for number in [
            "1.5",
            "1.0",
            "1e3",
            "18446744073709551616",
            "-9223372036854775809",
        ] {
            assert_eq!(fault(number), Fault::Number, "{number}");
        }
        for text in [
            "",
            "{",
            "nul",
            "{} x",
            "{\"a\":1,}",
            "\"\u{1}\"",
            "\"\\ud800\"",
            "NaN",
        ] {
            assert!(matches!(fault(text), Fault::Syntax(_)), "{text}");
        }
        assert!(matches!(parse(b"\"\xff\"").unwrap_err(), Fault::Syntax(_)));
    }

    #[test]
    fn depth_has_a_limit() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        parse(nested(MAX_DEPTH as usize).as_bytes()).unwrap();
        assert_eq!(
            parse(nested(MAX_DEPTH as usize + 1).as_bytes()).unwrap_err(),
            Fault::Depth
        );
        let objects = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
        assert_eq!(parse(objects.as_bytes()).unwrap_err(), Fault::Depth);
    }

    #[test]
    fn numbers_without_canonical_form_are_not_written() {
        assert_eq!(
            canonical(&serde_json::json!({"a": 0.5})),
            Err(Fault::Number)
        );
    }
}
