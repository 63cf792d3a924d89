//! How a harness is run, as the annotations of its template say.

use paddock_api::labels;
use paddock_runnerapi::{Features, MODEL_PORT, PORT};

use crate::build::BuildError;

/// The harness that is any server which speaks opencode's wire.
pub(super) const HTTP: &str = "http";

/// See the module.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settings<'a> {
    pub(super) harness: &'a str,
    /// The harness's container, where it is not the first one.
    pub(super) container: Option<&'a str>,
    /// The runner has a container of its own.
    pub(super) sidecar: bool,
    /// Its image, where it is not the runner's.
    pub(super) image: Option<&'a str>,
    pub(super) port: Option<u16>,
    pub(super) features: Option<&'a str>,
    pub(super) model: Option<&'a str>,
}

impl<'a> Settings<'a> {
    /// Reads them. `annotation` gives the value of one.
    ///
    /// # Errors
    /// Where one says what cannot be; it is named.
    pub(super) fn read(
        harness: &'a str,
        annotation: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<Self, BuildError> {
        let bad = |key: &'static str, why: &str| BuildError::BadAnnotation {
            key,
            value: annotation(key).unwrap_or_default().to_owned(),
            why: why.to_owned(),
        };
        let of_http = [labels::HARNESS_PORT, labels::HARNESS_FEATURES, labels::HARNESS_MODEL];
        let stray = of_http.into_iter().find(|key| harness != HTTP && annotation(key).is_some());
        if let Some(key) = stray {
            return Err(bad(key, "only the harness http has this setting; leave it out"));
        }
        let sidecar = match annotation(labels::RUNNER) {
            None | Some("injected") => false,
            Some("sidecar") if harness == HTTP => true,
            Some("sidecar") => {
                let why = "only the harness http can do without the runner as its first process; leave the annotation out";
                return Err(bad(labels::RUNNER, why));
            }
            Some(_) => return Err(bad(labels::RUNNER, "it must be injected or sidecar")),
        };
        let image = annotation(labels::RUNNER_IMAGE);
        if image.is_some() && !sidecar {
            let why = "the runner has no container of its own here; leave it out, or set paddock.dev/runner to sidecar";
            return Err(bad(labels::RUNNER_IMAGE, why));
        }
        if image.is_some_and(|image| image.is_empty() || image.contains(char::is_whitespace)) {
            return Err(bad(labels::RUNNER_IMAGE, "it is no reference of an image"));
        }
        let fits = |port: &u16| ![0, PORT, MODEL_PORT].contains(port);
        let port = annotation(labels::HARNESS_PORT).map(|text| text.parse().ok().filter(fits).ok_or(text));
        let port = port.transpose().map_err(|_| {
            let why = format!(
                "it must be a number from 1 to 65535, in quotes, other than {PORT} and {MODEL_PORT}, which are the runner's"
            );
            bad(labels::HARNESS_PORT, &why)
        })?;
        let features = annotation(labels::HARNESS_FEATURES);
        if let Some(Err(why)) = features.map(str::parse::<Features>) {
            return Err(bad(labels::HARNESS_FEATURES, &why.to_string()));
        }
        let model = annotation(labels::HARNESS_MODEL);
        let is_model = |text: &str| {
            text.split_once('/').is_some_and(|(provider, model)| !provider.is_empty() && !model.is_empty())
        };
        if model.is_some_and(|model| !is_model(model)) {
            return Err(bad(labels::HARNESS_MODEL, "it must be of the form provider/model"));
        }
        let container = annotation(labels::HARNESS_CONTAINER);
        Ok(Self { harness, container, sidecar, image, port, features, model })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(harness: &'static str, said: &[(&str, &'static str)]) -> Result<Settings<'static>, String> {
        let annotation = |key: &str| said.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
        Settings::read(harness, annotation).map_err(|error| error.to_string())
    }

    #[test]
    fn a_server_of_somebody_s_own_is_described_by_annotations() {
        let plain = read("opencode", &[(labels::HARNESS_CONTAINER, "main")]).unwrap();
        assert_eq!((plain.container, plain.sidecar, plain.port), (Some("main"), false, None));
        let own = [
            (labels::RUNNER, "sidecar"),
            (labels::RUNNER_IMAGE, "tools:1"),
            (labels::HARNESS_PORT, "8080"),
            (labels::HARNESS_FEATURES, "abort,mcp"),
            (labels::HARNESS_MODEL, "litellm/openai/gpt"),
        ];
        let own = read("http", &own).unwrap();
        assert_eq!((own.sidecar, own.image, own.port), (true, Some("tools:1"), Some(8080)));
        assert_eq!((own.features, own.model), (Some("abort,mcp"), Some("litellm/openai/gpt")));
    }

    #[test]
    fn what_cannot_be_is_named_with_what_to_do() {
        for (harness, said, why) in [
            ("opencode", vec![(labels::RUNNER, "sidecar")], "only the harness http can do without"),
            ("opencode", vec![(labels::HARNESS_PORT, "4096")], "only the harness http has this setting"),
            ("http", vec![(labels::RUNNER, "beside")], "it must be injected or sidecar"),
            ("http", vec![(labels::RUNNER_IMAGE, "x")], "set paddock.dev/runner to sidecar"),
            ("http", vec![(labels::RUNNER, "sidecar"), (labels::RUNNER_IMAGE, "a b")], "no reference"),
            ("http", vec![(labels::HARNESS_PORT, "7070")], "other than 7070 and 7071"),
            ("http", vec![(labels::HARNESS_PORT, "http")], "from 1 to 65535"),
            ("http", vec![(labels::HARNESS_FEATURES, "fly")], "none of abort, files"),
            ("http", vec![(labels::HARNESS_MODEL, "gpt")], "provider/model"),
        ] {
            let error = read(harness, &said).unwrap_err();
            let (key, value) = said[said.len() - 1];
            assert!(error.starts_with(&format!("the annotation {key} says {value:?}: ")), "{error}");
            assert!(error.contains(why), "{error}");
        }
    }
}
