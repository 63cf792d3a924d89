//! The environment of the agent's shells: a script that every shell reads first, so that it can be given to a harness that has
//! started already.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use paddock_runnerapi::EnvVar;
use serde_json::{Map, Value};

use super::home::write_private;

/// Names and values, of an environment or of headers, as an object. The last of a name counts.
pub(super) fn object<'a>(pairs: impl IntoIterator<Item = &'a EnvVar>) -> Map<String, Value> {
    pairs.into_iter().map(|pair| (pair.name.clone(), Value::from(pair.value.as_str()))).collect()
}

/// See the module.
pub(super) struct ShellEnv {
    path: PathBuf,
    hidden: &'static [&'static str],
}

impl ShellEnv {
    /// A script in this folder. The shells inherit the harness's environment; of that, `hidden` is taken away first. That keeps it
    /// out of transcripts (`env`); it hides nothing from an agent that looks at its parent in /proc.
    pub(super) fn new(folder: &Path, hidden: &'static [&'static str]) -> Self {
        Self { path: folder.join("env.sh"), hidden }
    }

    /// The script.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes it; the next shell sees it. The names are variable names.
    pub(super) fn write(&self, env: &[EnvVar]) -> io::Result<()> {
        let partial = self.path.with_extension("partial");
        write_private(&partial, &self.script(env))?;
        // A shell that starts right now sees the old file or the new one, never half of it.
        fs::rename(&partial, &self.path)
    }

    fn script(&self, env: &[EnvVar]) -> String {
        let mut script = format!("unset BASH_ENV {}\n", self.hidden.join(" "));
        for EnvVar { name, value } in env {
            script.push_str(&format!("export {name}='{}'\n", value.replace('\'', r"'\''")));
        }
        script
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_reach_a_shell_as_they_are() {
        let value = "a'b\"$HOME `id`\n\\ end".to_owned();
        let env = ShellEnv::new(Path::new("/x"), &["SECRET_1", "SECRET_2"]);
        let script = env.script(&[EnvVar { name: "X_1".into(), value: value.clone() }]);
        assert_eq!(script.lines().next().unwrap(), "unset BASH_ENV SECRET_1 SECRET_2");
        let quoted = script.split_once("export X_1=").unwrap().1.trim_end_matches('\n');
        assert_eq!(quoted, format!("'{}'", value.replace('\'', r"'\''")));
    }
}
