//! Codex: a profile of ours in its home, layered over whatever configuration is there.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use paddock_runnerapi::AgentBinding;
use serde_json::json;

use super::profile::{Place, Profile, SetUp};
use crate::harness::codex::{self, NAME, TOKEN};
use crate::harness::home::write_private;
use crate::model_proxy::ModelProxy;

/// See the module.
pub(super) struct Codex;

impl Profile for Codex {
    fn name(&self) -> &'static str {
        "codex"
    }

    fn program(&self) -> &'static str {
        "codex"
    }

    fn skills(&self, place: &Place) -> PathBuf {
        codex::skills(&place.home)
    }

    fn set_up(&self, place: &Place, agent: &AgentBinding, proxy: &ModelProxy) -> io::Result<SetUp> {
        codex::prepare(&place.home)?;
        let home = codex::folder(&place.home);
        let mut profile = codex::config(&place.workspace, agent, proxy.base_url());
        // Keys come over the network in lumps, and that does not make them pasted text, in which Enter is a line break.
        profile["disable_paste_burst"] = json!(true);
        let text = toml::to_string(&profile).map_err(io::Error::other)?;
        write_private(&home.join(format!("{NAME}.config.toml")), &text)?;
        let env = vec![
            ("CODEX_HOME".into(), home.into()),
            (TOKEN.into(), proxy.token().reveal().to_owned().into()),
        ];
        Ok(SetUp { args: vec!["--profile".into(), NAME.into()], env })
    }

    fn go_on(&self, _: &Place) -> Vec<OsString> {
        // Where there is none it begins one.
        vec!["resume".into(), "--last".into()]
    }
}
