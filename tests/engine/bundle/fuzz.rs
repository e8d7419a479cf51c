//! Randomly modified bundles.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::models::{SINGLE, SPEECH, assert_sound, edited, load};

/// Collects the JSON pointers of all values in a document.
fn places(value: &Value, at: String, all: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                places(inner, format!("{at}/{key}"), all);
            }
        }
        Value::Array(list) => {
            for (i, inner) in list.iter().enumerate() {
                places(inner, format!("{at}/{i}"), all);
            }
        }
        _ => {}
    }
    all.push(at);
}

fn replacement() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => (0u64..24).prop_map(|n| json!(n)),
        2 => prop::sample::select(vec![
            json!(u64::MAX),
            json!(i64::MAX),
            json!(1u64 << 28),
            json!(1u64 << 20),
            json!(100_000),
            json!(-1),
            json!(0.5),
            json!(1e300),
            json!(-1e-300),
        ]),
        2 => prop::sample::select(vec![
            json!(null),
            json!([]),
            json!({}),
            json!(""),
            json!(true),
            json!([0, 0]),
            json!([null, null]),
            json!([1, 1, 1]),
            json!("Same"),
            json!("Causal"),
            json!("Linear"),
            json!("Softmax"),
            json!("Flatten"),
            json!("Reverse"),
            json!("ChannelMultiply"),
            json!("age"),
            json!("network"),
        ]),
    ]
}

#[derive(Debug, Clone)]
enum Edit {
    Replace(Value),
    /// Replacement by the value at another pointer.
    Copy(prop::sample::Index),
    Repeat,
    Remove,
}

fn apply(document: &mut Value, at: prop::sample::Index, edit: &Edit) {
    let mut all = Vec::new();
    places(document, String::new(), &mut all);
    let path = &all[at.index(all.len())];
    let new = match edit {
        Edit::Replace(value) => Some(value.clone()),
        Edit::Copy(from) => document.pointer(&all[from.index(all.len())]).cloned(),
        Edit::Repeat | Edit::Remove => None,
    };
    if let (Some(new), Some(place)) = (new, document.pointer_mut(path)) {
        *place = new;
        return;
    }
    let (parent, key) = path.rsplit_once('/').unwrap_or(("", ""));
    match document.pointer_mut(parent) {
        Some(Value::Array(list)) => {
            let Ok(index) = key.parse::<usize>() else {
                return;
            };
            match edit {
                Edit::Repeat => list.insert(index, list[index].clone()),
                _ => drop(list.remove(index)),
            }
        }
        Some(Value::Object(map)) => drop(map.remove(key)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn changed_documents_never_panic_and_never_load_unsound(
        speech: bool,
        edits in prop::collection::vec(
            (
                any::<prop::sample::Index>(),
                prop_oneof![
                    4 => replacement().prop_map(Edit::Replace),
                    2 => any::<prop::sample::Index>().prop_map(Edit::Copy),
                    1 => Just(Edit::Repeat),
                    1 => Just(Edit::Remove),
                ],
            ),
            1..4,
        ),
    ) {
        let bytes = if speech { &SPEECH } else { &SINGLE };
        let bytes = edited(bytes, |document| {
            for (at, edit) in &edits {
                apply(document, *at, edit);
            }
        });
        if let Ok(model) = load(&bytes) {
            assert_sound(&model);
        }
    }

    #[test]
    fn changed_bytes_never_panic_and_never_load_unsound(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        in_header: bool,
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let mut bytes = SINGLE.clone();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        for (at, byte) in edits {
            let at = at.index(if in_header { header + 8 } else { bytes.len() });
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(model) = load(&bytes) {
            assert_sound(&model);
        }
    }
}
