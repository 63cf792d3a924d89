//! Tokens for pods, each used for as long as it is good for.
//!
//! To sign one costs as much as the rest of relaying a short turn, and what a runner checks does not change within its lifetime:
//! which pod, which session, what it allows.

use std::collections::HashMap;
use std::time::Duration;

use http::HeaderValue;
use jiff::Timestamp;
use paddock_runnerapi::SigningKey;
use paddock_runnerapi::token::{LIFETIME_SECS, Scope, TokenError};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::target::Target;

/// How long a token is shown. What is left of its lifetime then is for requests on their way.
const SHOWN: Duration = Duration::from_secs(LIFETIME_SECS.unsigned_abs() / 2);
/// So many are kept before old ones are looked for.
const FIRST_SWEEP: usize = 1_024;

/// See the module.
#[derive(Default)]
pub struct Tokens(Mutex<Kept>);

struct Kept {
    /// By the UID of the pod, which serves one session in its life.
    tokens: HashMap<String, Token>,
    /// At so many old ones are thrown away.
    sweep_at: usize,
}

struct Token {
    session_uid: String,
    bearer: HeaderValue,
    until: Instant,
}

impl Default for Kept {
    fn default() -> Self {
        Self { tokens: HashMap::new(), sweep_at: FIRST_SWEEP }
    }
}

impl Tokens {
    /// What to show the runner at `target` with a turn, and with all else that a client may ask of it.
    ///
    /// # Errors
    /// The token cannot be signed.
    pub fn bearer(&self, key: &SigningKey, target: &Target) -> Result<HeaderValue, TokenError> {
        let now = Instant::now();
        let is_good = |token: &&Token| token.session_uid == target.session_uid && now < token.until;
        if let Some(token) = self.0.lock().tokens.get(&target.pod_uid).filter(is_good) {
            return Ok(token.bearer.clone());
        }
        let signed = key.sign(&target.pod_uid, &target.session_uid, Scope::Turn, Timestamp::now())?;
        let mut bearer = HeaderValue::try_from(format!("Bearer {signed}")).map_err(|_| TokenError::Sign)?;
        bearer.set_sensitive(true);
        let session_uid = target.session_uid.clone();
        let token = Token { session_uid, bearer: bearer.clone(), until: now + SHOWN };
        let mut kept = self.0.lock();
        if kept.tokens.len() >= kept.sweep_at {
            kept.tokens.retain(|_, token| now < token.until);
            kept.sweep_at = FIRST_SWEEP.max(2 * kept.tokens.len());
        }
        kept.tokens.insert(target.pod_uid.clone(), token);
        Ok(bearer)
    }
}

#[cfg(test)]
mod tests {
    use paddock_runnerapi::VerifyingKeys;

    use super::*;
    use crate::testing::signing_key;

    fn target(pod: &str, session: &str) -> Target {
        Target {
            address: ([127, 0, 0, 1], 7070).into(),
            pod_name: "pod".into(),
            pod_uid: pod.into(),
            session_uid: session.into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_used_again_by_its_own_pod_and_session_only_and_not_to_its_end() {
        let (tokens, key) = (Tokens::default(), signing_key());
        let keys = VerifyingKeys::parse(key.public_key()).unwrap();
        let shown = |pod: &str, session: &str| tokens.bearer(&key, &target(pod, session)).unwrap();
        let opens = |bearer: &HeaderValue, pod: &str| {
            let token = bearer.to_str().unwrap().strip_prefix("Bearer ").unwrap().to_owned();
            keys.verify(&token, pod, Scope::Turn).ok()
        };
        let first = shown("p1", "s1");
        assert_eq!(opens(&first, "p1").as_deref(), Some("s1"));
        assert_eq!(opens(&shown("p2", "s2"), "p2").as_deref(), Some("s2"));
        assert_eq!(shown("p1", "s1"), first);
        assert_eq!(opens(&shown("p1", "s3"), "p1").as_deref(), Some("s3"));
        let until = |pod: &str| tokens.0.lock().tokens[pod].until;
        shown("p1", "s1");
        let before = until("p1");
        tokio::time::advance(SHOWN - Duration::from_millis(1)).await;
        shown("p1", "s1");
        assert_eq!(until("p1"), before);
        tokio::time::advance(Duration::from_millis(1)).await;
        shown("p1", "s1");
        assert_eq!(until("p1"), before + SHOWN);
    }

    #[tokio::test(start_paused = true)]
    async fn those_of_pods_that_are_asked_nothing_more_are_forgotten() {
        let (tokens, key) = (Tokens::default(), signing_key());
        for n in 0..FIRST_SWEEP {
            tokens.bearer(&key, &target(&format!("old-{n}"), "s")).unwrap();
        }
        tokio::time::advance(SHOWN).await;
        tokens.bearer(&key, &target("new", "s")).unwrap();
        assert_eq!(tokens.0.lock().tokens.len(), 1);
    }
}
