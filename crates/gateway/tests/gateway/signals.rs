//! The program itself, and the signal that ends it.

use std::path::Path;

use tokio::process::Command;

use super::runner::PEM;
use super::support::soon;

async fn run(program: &str, argument: &str, other: &Path) {
    let status = soon(Command::new(program).arg(argument).arg(other).status()).await.unwrap();
    assert!(status.success(), "{program}: {status}");
}

#[tokio::test]
async fn a_stop_that_comes_while_it_starts_is_obeyed() {
    let folder = std::env::temp_dir().join(format!("paddock-gateway-signals-{}", uuid::Uuid::now_v7()));
    std::fs::create_dir(&folder).unwrap();
    let (key, pem, config) = (folder.join("key"), folder.join("key.pem"), folder.join("kubeconfig"));
    // Reading the master key is the first thing that a start waits for, and a pipe lets it wait.
    run("mkfifo", "--", &key).await;
    std::fs::write(&pem, PEM).unwrap();
    std::fs::write(
        &config,
        "{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}], \
         clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}], users: [{name: u, user: {}}]}",
    )
    .unwrap();
    let mut gateway = Command::new(env!("CARGO_BIN_EXE_paddock-gateway"))
        .args(["--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--namespace=test", "--drain-grace=0s"])
        .arg("--master-key-file")
        .arg(&key)
        .arg("--signing-key-file")
        .arg(&pem)
        .env("KUBECONFIG", &config)
        .env("RUST_LOG", "error")
        .kill_on_drop(true)
        .spawn()
        .unwrap();

    // Opens once the gateway reads.
    let pipe = tokio::task::spawn_blocking(move || std::fs::OpenOptions::new().write(true).open(key));
    let mut pipe = soon(pipe).await.unwrap().unwrap();
    let pid = gateway.id().unwrap().to_string();
    run("kill", "-TERM", Path::new(&pid)).await;
    std::io::Write::write_all(&mut pipe, b"test-key").unwrap();
    drop(pipe);
    let status = soon(gateway.wait()).await.unwrap();
    assert!(status.success(), "{status}");
    std::fs::remove_dir_all(&folder).unwrap();
}
