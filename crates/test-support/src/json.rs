//! JSON with the same bytes on every machine.

use bytes::Bytes;
use serde_json::{Map, Value};

/// Writes `value` with its keys in alphabetical order, whatever order the features of `serde_json` keep.
pub(crate) fn to_bytes(value: &Value) -> Bytes {
    Bytes::from(serde_json::to_vec(&sorted(value)).expect("a JSON value can be written"))
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Object(members) => {
            let mut keys: Vec<_> = members.keys().collect();
            keys.sort();
            Value::Object(
                keys.into_iter()
                    .map(|key| (key.clone(), sorted(&members[key])))
                    .collect::<Map<_, _>>(),
            )
        }
        other => other.clone(),
    }
}
