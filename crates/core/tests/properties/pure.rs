//! Merge patches and derived names.

use std::collections::BTreeSet;

use paddock_core::ids::derived_name;
use paddock_core::op::merge_diff;
use proptest::prelude::*;
use serde_json::{Map, Value};

/// Any JSON without nulls: to a merge patch a null means absence, and the API server stores none.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-c]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            object(inner).prop_map(Value::Object),
        ]
    })
}

/// Few keys, so that two objects have many in common.
fn object(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::btree_map("[a-d]", value, 0..4).prop_map(|members| members.into_iter().collect())
}

/// RFC 7386.
fn apply(target: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut result = target.as_object().cloned().unwrap_or_default();
    for (key, change) in patch {
        if change.is_null() {
            result.remove(key);
        } else {
            let merged = apply(result.get(key).unwrap_or(&Value::Null), change);
            result.insert(key.clone(), merged);
        }
    }
    Value::Object(result)
}

proptest! {
    #[test]
    fn a_merge_patch_leads_from_one_object_to_the_other(before in object(json()), after in object(json())) {
        let (before, after) = (Value::Object(before), Value::Object(after));
        let patch = merge_diff(&before, &after);
        prop_assert_eq!(apply(&before, &patch), after);
    }

    #[test]
    fn nothing_to_change_is_an_empty_patch(object in object(json())) {
        let object = Value::Object(object);
        prop_assert_eq!(merge_diff(&object, &object), Value::Object(Map::new()));
    }

    #[test]
    fn a_derived_name_is_a_label_of_dns_whatever_the_stem(
        stem in "[a-z]([a-z0-9-]{0,251}[a-z0-9])?",
        owner in "[0-9a-f-]{36}",
        ordinal in any::<u64>(),
    ) {
        let name = derived_name(&stem, &owner, ordinal);
        prop_assert!(name.len() <= 63, "{}", name);
        prop_assert!(name.starts_with(|c: char| c.is_ascii_lowercase()), "{}", name);
        prop_assert!(name.ends_with(|c: char| c.is_ascii_alphanumeric()), "{}", name);
        prop_assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
        prop_assert_eq!(&name, &derived_name(&stem, &owner, ordinal));
    }

    #[test]
    fn the_names_of_one_owner_hardly_ever_meet(owner in "[0-9a-f-]{36}", from in 0u64..1 << 40) {
        let names: BTreeSet<String> = (from..from + 200).map(|n| derived_name("pool", &owner, n)).collect();
        // Two that meet cost one more look-up; 200 out of 14 million do so once in 700 times.
        prop_assert!(names.len() >= 198, "{} names", names.len());
    }
}
