//! Short-lived Ed25519-signed tokens (JWT, `EdDSA`) that controller and gateway show to a runner.
//!
//! A token names one pod (`aud` = pod UID), one session (`sub` = session UID) and one scope. A pod holds
//! public keys only, so nothing in a pod can speak for another pod, and an address that was reused by
//! another pod answers 401 instead of serving the wrong session.
//!
//! The same key signs what a gateway gives its clients to attach to a session's terminal with ([`TerminalToken`]). Its audience
//! is no pod's, so no runner takes it.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

/// How long a token is valid, in seconds.
pub const LIFETIME_SECS: i64 = 60;
/// How far the clocks of two nodes may be apart, in seconds.
pub const LEEWAY_SECS: u64 = 60;

/// How long a [`TerminalToken`] is valid, in seconds.
pub const TERMINAL_LIFETIME_SECS: i64 = 600;
/// Its audience: gateways. A pod's is its UID.
const TERMINAL_AUDIENCE: &str = "paddock-gateway/terminal";

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Binding the pod to the session, reading how busy it is, and bringing it to rest. Controller only.
    Control,
    /// Running and reading turns.
    Turn,
    /// Attaching to the session's terminal, by way of any gateway.
    Terminal,
}

/// What a client may show to attach to the terminal of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TerminalToken {
    /// UID of the session.
    pub session_uid: String,
    /// Name of the scoped key that it was given to; none for the master key.
    pub key: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    aud: String,
    sub: String,
    scope: Scope,
    iat: i64,
    exp: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

/// Why a key or a token was refused. Never holds key material.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The private key is not a PKCS#8 PEM with an Ed25519 key.
    #[error("the signing key is not an Ed25519 private key in PKCS#8 PEM form")]
    BadPrivateKey,
    /// A public key is not 32 bytes in base64url.
    #[error("a public key is not 32 bytes in base64url without padding")]
    BadPublicKey,
    /// The token could not be made.
    #[error("the token could not be signed")]
    Sign,
    /// The token is forged, expired, or for another pod.
    #[error("the token is not valid for this pod: {0}")]
    Invalid(String),
    /// The token allows something else.
    #[error("the token's scope does not allow this request")]
    WrongScope,
}

/// The private key of controller and gateway.
pub struct SigningKey {
    key: EncodingKey,
    public: String,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public).field("private", &"***").finish()
    }
}

impl SigningKey {
    /// Reads an Ed25519 private key in PKCS#8 PEM form.
    ///
    /// # Errors
    /// [`TokenError::BadPrivateKey`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, TokenError> {
        let der = pem::parse(pem).map_err(|_| TokenError::BadPrivateKey)?.into_contents();
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| TokenError::BadPrivateKey)?;
        let public = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        Ok(Self { key: EncodingKey::from_ed_der(&der), public })
    }

    /// The public half, as [`VerifyingKeys::parse`] reads it.
    pub fn public_key(&self) -> &str {
        &self.public
    }

    /// A token for `scope` on the pod and session with these UIDs, valid for [`LIFETIME_SECS`].
    ///
    /// # Errors
    /// [`TokenError::Sign`].
    pub fn sign(
        &self,
        pod_uid: &str,
        session_uid: &str,
        scope: Scope,
        now: jiff::Timestamp,
    ) -> Result<String, TokenError> {
        let iat = now.as_second();
        let (aud, sub) = (pod_uid.to_owned(), session_uid.to_owned());
        self.encode(&Claims { aud, sub, scope, iat, exp: iat + LIFETIME_SECS, key: None })
    }

    /// `token`, valid for [`TERMINAL_LIFETIME_SECS`].
    ///
    /// # Errors
    /// [`TokenError::Sign`].
    pub fn sign_terminal(&self, token: &TerminalToken, now: jiff::Timestamp) -> Result<String, TokenError> {
        let iat = now.as_second();
        self.encode(&Claims {
            aud: TERMINAL_AUDIENCE.to_owned(),
            sub: token.session_uid.clone(),
            scope: Scope::Terminal,
            iat,
            exp: iat + TERMINAL_LIFETIME_SECS,
            key: token.key.clone(),
        })
    }

    fn encode(&self, claims: &Claims) -> Result<String, TokenError> {
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), claims, &self.key).map_err(|_| TokenError::Sign)
    }
}

/// The public keys that a runner trusts; more than one while keys are rotated.
#[derive(Clone)]
pub struct VerifyingKeys(Vec<DecodingKey>);

impl VerifyingKeys {
    /// Reads public keys separated by commas.
    ///
    /// # Errors
    /// [`TokenError::BadPublicKey`], also where there is none.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let keys = text
            .split(',')
            .map(|key| {
                let key = key.trim();
                let shape_ok = key.len() == 43
                    && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
                if !shape_ok {
                    return Err(TokenError::BadPublicKey);
                }
                DecodingKey::from_ed_components(key).map_err(|_| TokenError::BadPublicKey)
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self(keys))
    }

    /// Checks a token and returns the session UID it is bound to.
    ///
    /// # Errors
    /// [`TokenError::Invalid`], [`TokenError::WrongScope`].
    pub fn verify(&self, token: &str, pod_uid: &str, scope: Scope) -> Result<String, TokenError> {
        Ok(self.decode(token, pod_uid, scope)?.sub)
    }

    /// Checks what a client shows to attach to a terminal.
    ///
    /// # Errors
    /// [`TokenError::Invalid`], [`TokenError::WrongScope`].
    pub fn verify_terminal(&self, token: &str) -> Result<TerminalToken, TokenError> {
        let claims = self.decode(token, TERMINAL_AUDIENCE, Scope::Terminal)?;
        Ok(TerminalToken { session_uid: claims.sub, key: claims.key })
    }

    fn decode(&self, token: &str, audience: &str, scope: Scope) -> Result<Claims, TokenError> {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "aud", "sub"]);
        validation.leeway = LEEWAY_SECS;
        let mut last = TokenError::BadPublicKey;
        for key in &self.0 {
            match jsonwebtoken::decode::<Claims>(token, key, &validation) {
                Ok(data) if data.claims.scope == scope => return Ok(data.claims),
                Ok(_) => return Err(TokenError::WrongScope),
                Err(error) => last = TokenError::Invalid(error.to_string()),
            }
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Test key, made for this file with `openssl genpkey -algorithm ed25519`.
    const PEM: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
";

    fn keys() -> (SigningKey, VerifyingKeys) {
        let signing = SigningKey::from_pem(PEM.as_bytes()).unwrap();
        let verifying = VerifyingKeys::parse(signing.public_key()).unwrap();
        (signing, verifying)
    }

    #[test]
    fn public_key_is_the_one_of_rfc_8037() {
        let (signing, _) = keys();
        assert_eq!(signing.public_key(), "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    }

    #[test]
    fn a_token_opens_its_own_pod_only() {
        let (signing, verifying) = keys();
        let token = signing.sign("pod-1", "ses-1", Scope::Turn, jiff::Timestamp::now()).unwrap();
        assert_eq!(verifying.verify(&token, "pod-1", Scope::Turn).unwrap(), "ses-1");
        assert!(matches!(verifying.verify(&token, "pod-2", Scope::Turn), Err(TokenError::Invalid(_))));
        assert!(matches!(verifying.verify(&token, "pod-1", Scope::Control), Err(TokenError::WrongScope)));
    }

    #[test]
    fn a_terminal_s_token_opens_no_pod_and_a_pod_s_no_terminal() {
        let (signing, verifying) = keys();
        let (now, earlier) = (jiff::Timestamp::now(), jiff::SignedDuration::from_secs(700));
        for key in [None, Some("ci".to_owned())] {
            let token = TerminalToken { session_uid: "ses-1".into(), key };
            let signed = signing.sign_terminal(&token, now).unwrap();
            assert_eq!(verifying.verify_terminal(&signed).unwrap(), token);
            for scope in [Scope::Turn, Scope::Control, Scope::Terminal] {
                assert!(verifying.verify(&signed, "pod-1", scope).is_err());
            }
            assert!(
                verifying.verify_terminal(&signing.sign_terminal(&token, now - earlier).unwrap()).is_err()
            );
        }
        let pods = signing.sign("pod-1", "ses-1", Scope::Turn, now).unwrap();
        assert!(verifying.verify_terminal(&pods).is_err());
        let odd = signing.sign(TERMINAL_AUDIENCE, "ses-1", Scope::Turn, now).unwrap();
        assert!(matches!(verifying.verify_terminal(&odd), Err(TokenError::WrongScope)));
    }

    #[test]
    fn an_expired_or_altered_token_is_refused() {
        let (signing, verifying) = keys();
        let hour_ago = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1);
        let old = signing.sign("pod-1", "ses-1", Scope::Turn, hour_ago).unwrap();
        assert!(verifying.verify(&old, "pod-1", Scope::Turn).is_err());
        let token = signing.sign("pod-1", "ses-1", Scope::Turn, jiff::Timestamp::now()).unwrap();
        let (head, signature) = token.rsplit_once('.').unwrap();
        let forged = format!("{head}.{}", signature.chars().rev().collect::<String>());
        assert!(verifying.verify(&forged, "pod-1", Scope::Turn).is_err());
    }

    #[test]
    fn bad_keys_are_refused_and_never_printed() {
        assert!(SigningKey::from_pem(b"not a key").is_err());
        assert!(VerifyingKeys::parse("").is_err());
        assert!(VerifyingKeys::parse("abc,def").is_err());
        let (signing, _) = keys();
        assert!(!format!("{signing:?}").contains("nWGxne"));
    }
}
