//! Looking for secrets where they must not be.

use crate::scenario::Scenario;

const KINDS: &str =
    "pods,sandboxes,sessions,agents,sandboxtemplates,sandboxwarmpools,configmaps,events,deployments";

impl Scenario {
    /// Secrets of these names and values are in no object but Secrets, and in no log of controller and gateway. `known` is the
    /// name of an object that the search has to see.
    ///
    /// # Panics
    /// When one is. The secret is not printed: that would put it into one more log.
    pub async fn kept_secret(&self, secrets: &[(&str, &str)], known: &str) {
        let objects = self.kubectl.run(&["get", KINDS, "-o", "yaml"]).await.succeeded();
        assert!(objects.contains(known), "the search does not see {known}");
        clean("an object", &objects, secrets);
        for part in ["controller", "gateway"] {
            let target = format!("deployment/{}-{part}", self.env.release);
            let log = self.kubectl.run(&["logs", &target, "--all-pods", "--tail=-1"]).await.succeeded();
            assert!(!log.is_empty(), "the {part} logs nothing");
            clean(&format!("the {part}'s log"), &log, secrets);
        }
    }

    /// Nor are they in the log of a pod.
    ///
    /// # Panics
    /// As [`Self::kept_secret`].
    pub async fn kept_secret_by_pod(&self, secrets: &[(&str, &str)], pod: &str) {
        let log = self.kubectl.run(&["logs", pod, "--all-containers", "--tail=-1"]).await.succeeded();
        assert!(!log.is_empty(), "the runner logs nothing");
        clean("the runner's log", &log, secrets);
    }
}

/// None of these secrets, each with its name, is in `text`.
///
/// # Panics
/// When one is, without printing it.
#[track_caller]
pub fn clean(place: &str, text: &str, secrets: &[(&str, &str)]) {
    for (what, secret) in secrets {
        assert!(!text.contains(secret), "the {what} is in {place}");
    }
}
