//! Writes the CRD manifests into the folder given as the only argument, one file per kind.

use std::path::PathBuf;
use std::process::ExitCode;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use paddock_api::{Agent, Sandbox, SandboxTemplate, SandboxWarmPool, Session};

const HEADER: &str = "# Generated from crates/api by `make generate`. Do not edit.\n";

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: crdgen FOLDER");
        return ExitCode::from(2);
    };
    match write_all(&folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crdgen: writing to {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

fn write_all(folder: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
    std::fs::create_dir_all(folder)?;
    for crd in [Agent::crd(), Session::crd(), Sandbox::crd(), SandboxTemplate::crd(), SandboxWarmPool::crd()]
    {
        let name = crd.metadata.name.clone().unwrap_or_default();
        std::fs::write(folder.join(format!("{name}.yaml")), render(&crd)?)?;
    }
    Ok(())
}

fn render(crd: &CustomResourceDefinition) -> Result<String, serde_yaml::Error> {
    Ok(format!("{HEADER}{}", serde_yaml::to_string(crd)?))
}
