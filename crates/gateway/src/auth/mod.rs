//! Who may use the API: the master key, which allows everything, and scoped keys, which allow what they say.
//!
//! What a key allows is [`Access`]; `routes::access` applies it to every route. The value of a key never leaves this
//! module: it is known by its digest here, and by its name everywhere else.

mod access;
mod digest;
mod entry;
mod master;
mod quota;
mod scoped;

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use paddock_api::http::ErrorCode;
use paddock_runnerapi::{SigningKey, TerminalToken, VerifyingKeys};

pub use self::access::{Access, Rights};
pub use self::master::{Changed, KeyError, MasterKey};
pub use self::quota::Place;
pub use self::scoped::{ScopedKeys, SecretName};

use self::digest::Digest;
use self::quota::Exhausted;
use crate::error::ApiError;
use crate::http::query::Query;

/// When to try again after a gateway did not know the keys yet.
const UNKNOWN_RETRY: Duration = Duration::from_secs(1);
/// When to try again where all of a key's requests in flight are taken: any of them may end at any time.
const IN_FLIGHT_RETRY: Duration = Duration::from_secs(1);

/// Somebody who was let in.
#[derive(Debug)]
pub struct Admitted {
    /// What they may do.
    pub access: Access,
    /// Their request's place among those of their key; held until its answer is sent.
    pub place: Option<Place>,
}

/// The keys that there are.
#[derive(Clone, Copy)]
pub struct Keys<'a> {
    /// The master key.
    pub master: &'a MasterKey,
    /// The scoped ones, where there are such.
    pub scoped: Option<&'a ScopedKeys>,
    /// Signs tokens for terminals.
    pub signing: &'a SigningKey,
}

impl Keys<'_> {
    /// Checks the key of a request, and whose it is.
    ///
    /// # Errors
    /// `unauthorized`, with nothing said about why; `not_synced` where the keys are not known yet.
    pub fn authenticate(self, headers: &HeaderMap) -> Result<Access, ApiError> {
        self.whose(&presented(headers).ok_or_else(unauthorized)?)
    }

    /// The same for a request to attach to a terminal. It may show a key or a token for the terminal, and either in its query
    /// instead: browsers and some load balancers give it no headers of its own.
    ///
    /// # Errors
    /// The same.
    pub fn authenticate_terminal(self, headers: &HeaderMap, query: &Query) -> Result<Access, ApiError> {
        let shown = match headers.contains_key(AUTHORIZATION) {
            true => presented(headers),
            false => {
                query.get("token")?.filter(|token| !token.is_empty()).map(|token| token.as_bytes().to_vec())
            }
        };
        let shown = shown.ok_or_else(unauthorized)?;
        let keys = VerifyingKeys::parse(self.signing.public_key()).map_err(|_| unauthorized())?;
        let token = std::str::from_utf8(&shown).ok().and_then(|token| keys.verify_terminal(token).ok());
        let Some(TerminalToken { session_uid, key }) = token else { return self.whose(&shown) };
        let by = match key {
            None => Access::Master,
            // It may have been withdrawn since.
            Some(name) => {
                let scoped = self.scoped.ok_or_else(unauthorized)?;
                let key = scoped.named(&name);
                Access::Scoped(key.ok_or_else(|| unknown(scoped))?)
            }
        };
        Ok(Access::Lent { by: Box::new(by), session_uid })
    }

    fn whose(self, key: &[u8]) -> Result<Access, ApiError> {
        let digest = Digest::of(key);
        if self.master.is(&digest) {
            return Ok(Access::Master);
        }
        let scoped = self.scoped.ok_or_else(unauthorized)?;
        scoped.find(&digest).map(Access::Scoped).ok_or_else(|| unknown(scoped))
    }
}

/// The one answer to whoever is not let in.
pub fn unauthorized() -> ApiError {
    ApiError::new(ErrorCode::Unauthorized, "unauthorized")
}

/// Nobody is told that a key is wrong by a gateway that has not read which ones are right.
fn unknown(scoped: &ScopedKeys) -> ApiError {
    if scoped.listed() {
        return unauthorized();
    }
    ApiError::new(ErrorCode::NotSynced, "this gateway has not read the keys yet; try again shortly")
        .retry_after(UNKNOWN_RETRY)
}

/// Takes a request of a key's quota.
///
/// # Errors
/// `rate_limited` or `too_many_in_flight`, with the time after which it is worth a try.
pub fn admit(access: Access) -> Result<Admitted, ApiError> {
    let key = match &access {
        Access::Lent { by, .. } => by,
        own => own,
    };
    let place = match key {
        Access::Scoped(key) => key.quota().take(Instant::now()).map_err(refusal)?,
        Access::Master | Access::Lent { .. } => None,
    };
    Ok(Admitted { access, place })
}

fn refusal(exhausted: Exhausted) -> ApiError {
    match exhausted {
        Exhausted::Rate { wait } => ApiError::new(
            ErrorCode::RateLimited,
            "this key's requests come faster than its requestsPerSecond; send fewer, or ask for a higher limit",
        )
        .retry_after(wait),
        Exhausted::InFlight => ApiError::new(
            ErrorCode::TooManyInFlight,
            "as many of this key's requests are being answered as its maxInFlight allows; wait for one of them to end",
        )
        .retry_after(IN_FLIGHT_RETRY),
    }
}

/// The one key of a request: a bearer key, or the password of HTTP Basic, which is all that some clients know (opencode's CLI).
/// An empty one is none: its digest may have got into the Secret by mistake.
fn presented(headers: &HeaderMap) -> Option<Vec<u8>> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let mut words = value.as_bytes().splitn(2, |byte| *byte == b' ');
    let (scheme, given) = (words.next()?, words.next()?.trim_ascii());
    let key = if scheme.eq_ignore_ascii_case(b"bearer") {
        given.to_vec()
    } else if scheme.eq_ignore_ascii_case(b"basic") {
        let pair = STANDARD.decode(given).ok()?;
        let colon = pair.iter().position(|byte| *byte == b':')?;
        pair[colon + 1..].to_vec()
    } else {
        return None;
    };
    (!key.is_empty()).then_some(key)
}

#[cfg(test)]
mod tests {
    use paddock_kubeio::watch::Event;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::signing_key;

    fn headers(authorization: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in authorization {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        headers
    }

    fn master(key: &str) -> MasterKey {
        MasterKey::from_file(crate::testing::TempFile::new("auth", key).path()).unwrap()
    }

    fn who(
        master: &MasterKey,
        scoped: Option<&ScopedKeys>,
        authorization: &[&str],
    ) -> Result<String, ErrorCode> {
        let signing = &signing_key();
        let access = Keys { master, scoped, signing }.authenticate(&headers(authorization));
        access.map(|access| access.name().to_owned()).map_err(|error| error.code)
    }

    fn scoped(entries: &[(&str, Value)]) -> ScopedKeys {
        let keys = ScopedKeys::new(SecretName { namespace: "ns".into(), name: "keys".into() });
        keys.apply(Event::Synced(vec![scoped::testing::secret("keys", entries)]));
        keys
    }

    #[test]
    fn the_master_key_opens_and_nothing_else_does() {
        let master = master("s3cret\n");
        for right in ["Bearer s3cret", "bearer s3cret", "Bearer  s3cret "] {
            assert_eq!(who(&master, None, &[right]).unwrap(), "master", "{right}");
        }
        for right in ["opencode:s3cret", ":s3cret"] {
            let basic = format!("Basic {}", STANDARD.encode(right));
            assert_eq!(who(&master, None, &[&basic]).unwrap(), "master", "{right}");
        }
        for wrong in ["s3cret", "s3cret:", "s3cret:x", "x:y:s3cret", ":"] {
            let basic = format!("Basic {}", STANDARD.encode(wrong));
            assert_eq!(who(&master, None, &[&basic]), Err(ErrorCode::Unauthorized), "{wrong}");
        }
        for wrong in ["Bearer s3cre", "Bearer s3crets", "Bearer", "Bearer ", "Basic s3cret", "s3cret"] {
            assert_eq!(who(&master, None, &[wrong]), Err(ErrorCode::Unauthorized), "{wrong}");
        }
        assert_eq!(who(&master, None, &[]), Err(ErrorCode::Unauthorized));
        assert_eq!(who(&master, None, &["Bearer s3cret", "Bearer s3cret"]), Err(ErrorCode::Unauthorized));
        assert!(!format!("{master:?}").contains("s3cret"));
    }

    #[test]
    fn a_scoped_key_opens_in_its_own_name() {
        let master = master("s3cret");
        let keys = scoped(&[
            ("ci", json!({"key": "a-key-of-sixteen"})),
            ("qa", json!({"key": "another-of-sixteen"})),
        ]);
        assert_eq!(who(&master, Some(&keys), &["Bearer a-key-of-sixteen"]).unwrap(), "ci");
        assert_eq!(who(&master, Some(&keys), &["Bearer another-of-sixteen"]).unwrap(), "qa");
        assert_eq!(who(&master, Some(&keys), &["Bearer a-key-of-sixtee"]), Err(ErrorCode::Unauthorized));
        assert_eq!(who(&master, None, &["Bearer a-key-of-sixteen"]), Err(ErrorCode::Unauthorized));
    }

    #[test]
    fn the_digest_of_nothing_opens_nothing() {
        let master = master("s3cret");
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let keys = scoped(&[("oops", json!({"sha256": empty}))]);
        for bearer in ["Bearer ", "Bearer", "Bearer   "] {
            assert_eq!(who(&master, Some(&keys), &[bearer]), Err(ErrorCode::Unauthorized));
        }
    }

    #[test]
    fn before_the_keys_are_read_only_the_master_key_is_judged() {
        let master = master("s3cret");
        let keys = ScopedKeys::new(SecretName { namespace: "ns".into(), name: "keys".into() });
        assert_eq!(who(&master, Some(&keys), &["Bearer s3cret"]).unwrap(), "master");
        assert_eq!(who(&master, Some(&keys), &["Bearer any"]), Err(ErrorCode::NotSynced));
        assert_eq!(who(&master, Some(&keys), &[]), Err(ErrorCode::Unauthorized));
    }
}
