//! JSON of environments: one value, one canonical form, and the value is the one
//! that every other JSON reader sees.

use serde_json::Value;
use store::json::{MAX_DEPTH, canonical, parse};

use crate::memory;

pub(crate) fn run(bytes: &[u8]) {
    let Ok(value) = memory::bounded(bytes, 64 << 10, 128, parse) else {
        return;
    };
    assert_eq!(serde_json::from_slice::<Value>(bytes).expect("JSON"), value);
    assert!(depth(&value) <= MAX_DEPTH);
    let form = canonical(&value).expect("what is parsed has a canonical form");
    // Canonical JSON leaves control characters in strings as they are; other
    // readers want them escaped.
    if !form.iter().any(|byte| *byte < b' ') {
        assert_eq!(parse(&form).expect("JSON"), value);
    }
    let plain = serde_json::to_vec(&value).expect("JSON");
    assert_eq!(canonical(&parse(&plain).expect("JSON")), Ok(form));
}

fn depth(value: &Value) -> u32 {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
