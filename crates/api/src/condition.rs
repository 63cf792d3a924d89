//! Status conditions in the standard Kubernetes form.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether what a condition's type names holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It cannot be told.
    Unknown,
}

/// One observation of an object's state, for example `Ready`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What is observed, for example `Ready`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// The `metadata.generation` this was derived from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When `status` last changed, RFC 3339.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub last_transition_time: Timestamp,
    /// One CamelCase word out of a bounded set.
    pub reason: String,
    /// A sentence for people; may be empty.
    #[serde(default)]
    pub message: String,
}

/// A condition as decided, without the time at which its status last changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCondition {
    /// What is observed.
    pub kind: &'static str,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// One CamelCase word out of a bounded set.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

/// Puts `new` into `conditions`; `last_transition_time` moves only when the status changes.
pub fn set_condition(
    conditions: &mut Vec<Condition>,
    new: NewCondition,
    generation: Option<i64>,
    now: Timestamp,
) {
    match conditions.iter_mut().find(|c| c.kind == new.kind) {
        Some(old) => {
            if old.status != new.status {
                old.last_transition_time = now;
            }
            old.status = new.status;
            old.reason = new.reason;
            old.message = new.message;
            old.observed_generation = generation;
        }
        None => conditions.push(Condition {
            kind: new.kind.to_owned(),
            status: new.status,
            observed_generation: generation,
            last_transition_time: now,
            reason: new.reason,
            message: new.message,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ready(status: ConditionStatus, reason: &str) -> NewCondition {
        NewCondition { kind: "Ready", status, reason: reason.into(), message: String::new() }
    }

    #[test]
    fn transition_time_moves_only_when_the_status_changes() {
        let mut conditions = Vec::new();
        set_condition(&mut conditions, ready(ConditionStatus::False, "Starting"), Some(1), at(1));
        set_condition(&mut conditions, ready(ConditionStatus::False, "Pulling"), Some(1), at(2));
        assert_eq!(conditions[0].last_transition_time, at(1));
        assert_eq!(conditions[0].reason, "Pulling");
        set_condition(&mut conditions, ready(ConditionStatus::True, "Ready"), Some(2), at(3));
        assert_eq!(conditions.len(), 1);
        assert_eq!(conditions[0].last_transition_time, at(3));
        assert_eq!(conditions[0].observed_generation, Some(2));
    }
}
