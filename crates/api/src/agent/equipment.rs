//! What an agent's sessions are equipped with: a repository, files, skills, tools and packages.
//!
//! Limits keep an Agent, and the copy of it that each of its sessions has, far below what the API server stores. What is larger
//! belongs into a ConfigMap or into the repository.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EnvVar, EnvVarSource, Permissions};

/// All of it. In an Agent these are fields of the spec itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Equipment {
    /// Cloned into the workspace.
    pub repo: Option<Repo>,
    /// Written into the workspace.
    pub files: Vec<File>,
    /// Knowledge for the harness.
    pub skills: Vec<Skill>,
    /// Tools for the model.
    pub mcp_servers: Vec<McpServer>,
    /// Packages for the agent's shells.
    pub requirements: Requirements,
    /// What the model may not do.
    pub permissions: Permissions,
}

impl Equipment {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A git repository that is cloned into the workspace when a session starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.url.matches('^https?://[^/@\\\\s]+(/[^\\\\s]*)?$')").message("url must begin with https:// or http:// and have no user or password in it; put those into a Secret and name it in credentialSecretRef. ssh is not supported"),
    validation = Rule::new("!has(self.branch) || !self.branch.contains('..')").message("branch: no name of a branch or tag has two dots in a row")
)]
pub struct Repo {
    /// Where it is, over HTTPS or HTTP, without user and password.
    #[schemars(length(min = 1, max = 2048))]
    pub url: String,
    /// Branch or tag; the repository's default branch when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[^-\s~^:?*\[\\][^\s~^:?*\[\\]*$"))]
    pub branch: Option<String>,
    /// Clones all of the history; only the newest commit when absent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub full_history: bool,
    /// Where the credential for a private repository is; it is used to clone, fetch and push.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_secret_ref: Option<CredentialSecretRef>,
}

/// Names a credential in a Secret of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialSecretRef {
    /// The Secret's name. It must have the label paddock.dev/env: "true". Of its keys, `password` or `token` is read, and
    /// `username` where it is there (a token does without).
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key that a token is under, where it is neither `password` nor `token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub key: Option<String>,
}

/// A file that is written into the workspace after the repository is cloned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.content) != has(self.configMapKeyRef)").message("give exactly one of content and configMapKeyRef"),
    validation = Rule::new("self.path.matches('^([^/.][^/]*|[.][^/.][^/]*|[.][.][^/]+)(/([^/.][^/]*|[.][^/.][^/]*|[.][.][^/]+))*$')").message("path must be relative to the workspace and stay in it: no leading /, no empty part, no . or ..")
)]
pub struct File {
    /// Where it is written, relative to the workspace.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[^\x00-\x1f\x7f\\]+$"))]
    pub path: String,
    /// What is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65_536))]
    pub content: Option<String>,
    /// Where its content is, in place of `content`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<ConfigMapKeyRef>,
}

/// Names a text in a ConfigMap of the same namespace. It is read whenever a pod is given its session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKeyRef {
    /// The ConfigMap's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// Names a ConfigMap of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapRef {
    /// The ConfigMap's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Knowledge that the harness reads when it needs it: a folder with a SKILL.md.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.files) != has(self.configMapRef)").message("give exactly one of files and configMapRef"),
    validation = Rule::new("!has(self.files) || self.files.exists(f, f.path == 'SKILL.md')").message("a skill needs the file SKILL.md, which tells the harness what it is for")
)]
pub struct Skill {
    /// Name of its folder.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Its files, SKILL.md among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["path"]))]
    pub files: Vec<SkillFile>,
    /// A ConfigMap whose keys are its files, in place of `files`: kubectl create configmap NAME --from-file=FOLDER. It is
    /// read whenever a pod is given its session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<ConfigMapRef>,
}

/// A file of a skill.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.path.matches('^([^/.][^/]*|[.][^/.][^/]*|[.][.][^/]+)(/([^/.][^/]*|[.][^/.][^/]*|[.][.][^/]+))*$')").message("path must be relative to the skill's folder and stay in it: no leading /, no empty part, no . or ..")
)]
pub struct SkillFile {
    /// Where it is, relative to the skill's folder.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[^\x00-\x1f\x7f\\]+$"))]
    pub path: String,
    /// What is in it.
    #[schemars(length(max = 65_536))]
    pub content: String,
}

/// A server of the Model Context Protocol, whose tools the model is offered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.http) != has(self.stdio)").message("give exactly one of http (a server to connect to) and stdio (a program to start in the sandbox)"))]
pub struct McpServer {
    /// Its name, which its tools' names begin with.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9]([-_A-Za-z0-9]*[A-Za-z0-9])?$"))]
    pub name: String,
    /// A server to connect to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<McpHttp>,
    /// A program to start in the sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdio: Option<McpStdio>,
}

/// An MCP server that is reached over streamable HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.url.matches('^https?://[^/@\\\\s]+(/[^\\\\s]*)?$')").message("url must begin with https:// or http:// and have no user or password in it; send a credential in a header, with valueFrom"))]
pub struct McpHttp {
    /// Where it listens.
    #[schemars(length(min = 1, max = 2048))]
    pub url: String,
    /// Sent with each request. A secret belongs into a Secret: valueFrom.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub headers: Vec<Header>,
}

/// A header of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.value) != has(self.valueFrom)").message("give exactly one of value and valueFrom"))]
pub struct Header {
    /// Its name.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9][-_A-Za-z0-9]*$"))]
    pub name: String,
    /// Its value, used as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192), regex(pattern = r"^[^\r\n\x00]*$"))]
    pub value: Option<String>,
    /// Where its value is, in place of `value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<EnvVarSource>,
}

/// An MCP server that is a program in the sandbox, spoken to through its standard input and output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct McpStdio {
    /// The program and its arguments.
    #[schemars(length(min = 1, max = 64), inner(length(max = 4096)))]
    pub command: Vec<String>,
    /// Its environment beyond the agent's. A secret belongs into a Secret: valueFrom.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,
}

/// Packages that are installed for the agent's shells when a session starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.pip) || self.pip.all(p, p.matches('^[A-Za-z0-9][^\\\\r\\\\n]*$'))").message("pip: each entry is one requirement as pip install takes it, such as ruff==0.6.9; options are not supported"),
    validation = Rule::new("!has(self.npm) || self.npm.all(p, p.matches('^[@A-Za-z0-9][^\\\\s]*$'))").message("npm: each entry is one package as npm install takes it, such as prettier@3; options are not supported"),
    validation = Rule::new("(!has(self.pip) || !self.pip.exists(p, p.matches('(?i)https?://[^/\\\\s]*@|://[^/\\\\s]*:[^/\\\\s]*@'))) && (!has(self.npm) || !self.npm.exists(p, p.matches('(?i)https?://[^/\\\\s]*@|://[^/\\\\s]*:[^/\\\\s]*@')))").message("no package may have a user or password in its URL; name a registry that asks for them in a variable with valueFrom: PIP_INDEX_URL, NPM_CONFIG_REGISTRY")
)]
pub struct Requirements {
    /// As `pip install` takes them, for example `ruff==0.6.9`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 255)))]
    pub pip: Vec<String>,
    /// As `npm install` takes them, for example `prettier@3`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 255)))]
    pub npm: Vec<String>,
}

impl Requirements {
    /// Whether nothing is to be installed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether a package has a user or a password in its URL, as the rule of [`Requirements`] has it. The `git` of `ssh://git@host` is
/// none.
pub fn has_credential(package: &str) -> bool {
    package.match_indices("://").any(|(at, colon)| {
        let (before, after) = (&package[..at], &package[at + colon.len()..]);
        let host = after.split(|c: char| c == '/' || c.is_whitespace()).next().unwrap_or_default();
        let scheme = before.to_ascii_lowercase();
        let is_http = scheme.ends_with("http") || scheme.ends_with("https");
        host.rsplit_once('@').is_some_and(|(user, _)| is_http || user.contains(':'))
    })
}

/// `files` with those of `over` added, one of the same path replaced.
pub fn merge_files(files: &[File], over: &[File]) -> Vec<File> {
    let mut merged: BTreeMap<&str, &File> = files.iter().map(|file| (file.path.as_str(), file)).collect();
    merged.extend(over.iter().map(|file| (file.path.as_str(), file)));
    merged.into_values().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &str) -> File {
        File { path: path.into(), content: Some(content.into()), ..File::default() }
    }

    #[test]
    fn a_session_s_file_takes_the_place_of_the_agent_s() {
        let agent = [file("a", "1"), file("b", "1")];
        let merged = merge_files(&agent, &[file("b", "2"), file("c", "2")]);
        assert_eq!(merged, [file("a", "1"), file("b", "2"), file("c", "2")]);
    }

    #[test]
    fn a_credential_in_a_package_s_url_is_seen() {
        for bad in [
            "app @ https://u:hunter2@h/app.whl",
            "app@HTTPS://hunter2@h/app.tgz",
            "git+https://hunter2@h/app.git",
            "https://h/a https://u:hunter2@h",
            "git+ssh://git:hunter2@h/app.git",
        ] {
            assert!(has_credential(bad), "{bad}");
        }
        for good in [
            "ruff==0.6.9",
            "@acme/prettier@3",
            "app @ git+https://h:8443/app.git@v1.0#egg=a@b",
            "https://h/@acme/x@1",
            "git+ssh://git@h/app.git@v1",
            "npm:other@3",
        ] {
            assert!(!has_credential(good), "{good}");
        }
    }

    #[test]
    fn nothing_is_written_of_equipment_that_is_not_there() {
        let spec = crate::AgentSpec { model: "m".into(), ..crate::AgentSpec::default() };
        let json = serde_json::to_value(&spec).unwrap();
        for field in ["repo", "files", "skills", "mcpServers", "requirements", "permissions"] {
            assert!(json.get(field).is_none(), "{field}");
        }
        assert!(spec.equipment().is_empty());
    }
}
