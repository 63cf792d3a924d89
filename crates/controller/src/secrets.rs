//! Values of environment variables, out of the Secrets they are in, on their way to a runner. They are nowhere else: not in
//! what the engine knows, and not in what is said about a failure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use paddock_api::labels;
use paddock_core::op::{AbsentValue, Activation, SecretEnv};
use paddock_kubeio::write::{self, WriteError};
use paddock_runnerapi::EnvVar;

/// Why a variable has no value, in words a person can act on. The values themselves never are in it.
type Trouble = String;

/// The variables of `activation` whose values are in Secrets, as they are now.
pub(crate) async fn env(client: &kube::Client, activation: &Activation) -> Result<Vec<EnvVar>, Trouble> {
    let namespace = &activation.request.session.namespace;
    let mut by_secret: BTreeMap<&str, Vec<&SecretEnv>> = BTreeMap::new();
    for wanted in &activation.secret_env {
        by_secret.entry(&wanted.secret).or_default().push(wanted);
    }
    let mut env = Vec::new();
    for (name, wanted) in by_secret {
        let secret = read(client, namespace, name).await?;
        for wanted in wanted {
            match value(secret.as_ref(), wanted)? {
                Some(value) => env.push(EnvVar { name: wanted.name.clone(), value }),
                None if activation.absent == AbsentValue::LeftOut => {}
                None => return Err(absent(secret.as_ref(), namespace, wanted)),
            }
        }
    }
    Ok(env)
}

async fn read(client: &kube::Client, namespace: &str, name: &str) -> Result<Option<Secret>, Trouble> {
    let secret = write::get::<Secret>(client, namespace, name).await.map_err(|error| {
        let advice = match &error {
            WriteError::Rejected { status: 403, .. } => "; let the controller get secrets in that namespace",
            _ => "",
        };
        format!("reading Secret {name:?} in namespace {namespace} failed ({}){advice}", error.reason())
    })?;
    let marked = |secret: &Secret| {
        secret
            .metadata
            .labels
            .as_ref()
            .and_then(|all| all.get(labels::ENV_SECRET))
            .is_some_and(|v| v == "true")
    };
    // Whoever may make an Agent or a Session would otherwise get hold of every Secret beside it.
    match secret {
        Some(secret) if !marked(&secret) => Err(format!(
            "Secret {name:?} in namespace {namespace} is not meant for agents; give it the label {}: \"true\" if it is",
            labels::ENV_SECRET
        )),
        secret => Ok(secret),
    }
}

fn value(secret: Option<&Secret>, wanted: &SecretEnv) -> Result<Option<String>, Trouble> {
    let Some(bytes) = secret.and_then(|secret| secret.data.as_ref()?.get(&wanted.key)) else {
        return Ok(None);
    };
    match std::str::from_utf8(&bytes.0) {
        Ok(text) if !text.contains('\0') => Ok(Some(text.to_owned())),
        _ => Err(format!(
            "variable {}: what Secret {:?} has under {:?} is no text, so no variable can have it",
            wanted.name, wanted.secret, wanted.key
        )),
    }
}

fn absent(secret: Option<&Secret>, namespace: &str, wanted: &SecretEnv) -> Trouble {
    let SecretEnv { name, secret: of, key } = wanted;
    match secret {
        None => format!("variable {name}: there is no Secret {of:?} in namespace {namespace}; create it"),
        Some(_) => {
            format!("variable {name}: Secret {of:?} in namespace {namespace} has no key {key:?}; add it")
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn secret(key: &str, value: &[u8]) -> Secret {
        let data = [(key.to_owned(), ByteString(value.to_vec()))];
        Secret { data: Some(data.into()), ..Secret::default() }
    }

    #[test]
    fn values_are_texts_and_no_others_are_told() {
        let wanted = SecretEnv { name: "TOKEN".into(), secret: "s".into(), key: "token".into() };
        assert_eq!(value(Some(&secret("token", b"a b\n")), &wanted), Ok(Some("a b\n".to_owned())));
        assert_eq!(value(Some(&secret("other", b"x")), &wanted), Ok(None));
        assert_eq!(value(None, &wanted), Ok(None));
        for bad in [&b"hunter2\xff"[..], b"hunter2\0"] {
            let trouble = value(Some(&secret("token", bad)), &wanted).unwrap_err();
            assert!(trouble.contains("TOKEN") && !trouble.contains("hunter2"), "{trouble}");
        }
        assert!(absent(None, "ns", &wanted).contains("no Secret"));
        assert!(absent(Some(&secret("other", b"x")), "ns", &wanted).contains("no key"));
    }
}
