//! What a server that speaks opencode's wire can do beyond answering messages, as its template declares it: the wire has no way to
//! ask.

use std::str::FromStr;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// `abort`: `POST /session/{id}/abort` ends a running turn.
    pub abort: bool,
    /// `files`: it writes the `files` of `POST /session`.
    pub files: bool,
    /// `mcp`: it connects to the `mcp_servers` of `POST /session`.
    pub mcp: bool,
    /// How a message brings images; nothing where it brings none.
    pub attachments: Option<Attachments>,
}

/// See [`Features::attachments`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachments {
    /// `images`: parts of the type `image`, as Anthropic's API has them.
    Images,
    /// `file-parts`: parts of the type `file`, as opencode has them.
    FileParts,
}

/// The text names something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFeatures {
    /// A word that is not known.
    #[error("{0:?} is none of abort, files, mcp, images, file-parts")]
    Unknown(String),
    /// Images come in one form.
    #[error("images and file-parts exclude each other")]
    TwoForms,
}

impl Default for Features {
    /// Those of LiteLLM Agent Platform's images.
    fn default() -> Self {
        Self { abort: true, files: true, mcp: true, attachments: Some(Attachments::Images) }
    }
}

impl FromStr for Features {
    type Err = BadFeatures;

    /// Words, separated by commas; `none` stands for no word.
    fn from_str(text: &str) -> Result<Self, BadFeatures> {
        let mut features = Self { abort: false, files: false, mcp: false, attachments: None };
        for word in text.split(',').map(str::trim).filter(|word| !matches!(*word, "" | "none")) {
            let attachments = match word {
                "abort" => {
                    features.abort = true;
                    continue;
                }
                "files" => {
                    features.files = true;
                    continue;
                }
                "mcp" => {
                    features.mcp = true;
                    continue;
                }
                "images" => Attachments::Images,
                "file-parts" => Attachments::FileParts,
                _ => return Err(BadFeatures::Unknown(word.to_owned())),
            };
            if features.attachments.is_some_and(|other| other != attachments) {
                return Err(BadFeatures::TwoForms);
            }
            features.attachments = Some(attachments);
        }
        Ok(features)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_what_is_no_such_word_is_named() {
        assert_eq!("abort, files,mcp,images".parse(), Ok(Features::default()));
        let few =
            Features { abort: true, files: false, mcp: false, attachments: Some(Attachments::FileParts) };
        assert_eq!("file-parts,abort".parse(), Ok(few));
        let none = Features { abort: false, attachments: None, ..few };
        assert_eq!("none".parse(), Ok(none));
        assert_eq!("abort,resume".parse::<Features>(), Err(BadFeatures::Unknown("resume".into())));
        assert_eq!("images,file-parts".parse::<Features>(), Err(BadFeatures::TwoForms));
    }
}
