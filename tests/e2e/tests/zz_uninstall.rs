//! The last chapter: Paddock is taken off the cluster, and nothing of it stays but its CRDs.
//!
//! It removes the installation under test, so it runs only when asked for:
//! `cargo test -p paddock-e2e --test zz_uninstall -- --ignored`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a scenario's only way to fail is to panic, with a message that tells what was seen"
)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use paddock_api::Session;
use paddock_e2e::scenario::{name_of, uid};
use paddock_e2e::{LIVENESS, Scenario, Share, measure, scenario, wait};
use serde_json::json;

#[tokio::test]
#[ignore = "removes Paddock from the cluster; `make test` runs it last"]
async fn leaves_nothing_but_crds() {
    scenario("helm test, helm uninstall", Share::Alone, Duration::from_secs(900), async |s| {
        let others = s.kubectl.run(&["get", "sessions", "-o", "name"]).await.succeeded();
        assert!(others.is_empty(), "sessions of somebody else are here; delete them first:\n{others}");
        let said = s.helm(&["test", &s.env.release]).await;
        assert!(said.contains("Succeeded"), "{said}");

        // Sessions belong to the user: they outlive the installation, and can still be deleted after it.
        let agent = s.agent("left", json!({})).await;
        let session = s.ready_session("left", &agent).await;
        let started = Instant::now();
        s.helm(&["uninstall", &s.env.release, "--wait", "--timeout=4m"]).await;
        measure::times("helm uninstall", &[started.elapsed()]);
        let id = name_of(&session);
        // Ours, and the record that `helm test` left of its own.
        for kind in ["sessions", "agents"] {
            s.kubectl.run(&["delete", kind, "--all", "--timeout=60s"]).await.succeeded();
        }
        wait::gone(&s.api::<Session>(), &id, LIVENESS).await;
        s.nothing_bound_to(&uid(&session)).await;

        wait::until("nothing of Paddock is left but its CRDs", LIVENESS, async || {
            let left = left_over(s).await;
            if left.is_empty() { Ok(()) } else { Err(format!("{left:#?}")) }
        })
        .await;
        measure::times("helm uninstall→nothing left", &[started.elapsed()]);
        let crds = s.kubectl.run(&["get", "crds", "-o", "name"]).await.succeeded();
        for crd in ["sessions.paddock.dev", "agents.paddock.dev", "sandboxes.agents.x-k8s.io"] {
            assert!(crds.contains(crd), "the CRD {crd} is kept, with what users made of it:\n{crds}");
        }
    })
    .await;
}

/// Everything that is in the release's namespace, and what has its name or label anywhere else.
async fn left_over(s: &Scenario) -> BTreeSet<String> {
    let mut left = BTreeSet::new();
    for (namespaced, scope) in [("true", &["--all-namespaces"][..]), ("false", &[])] {
        let flag = format!("--namespaced={namespaced}");
        let kinds = s.kubectl.run(&["api-resources", "--verbs=list", &flag, "-o", "name"]).await.succeeded();
        let kinds: Vec<&str> = kinds.lines().filter(|kind| !kind.starts_with("events")).collect();
        let kinds = kinds.join(",");
        let columns = "-o=custom-columns=KIND:.kind,NAMESPACE:.metadata.namespace,NAME:.metadata.name,LABELS:.metadata.labels";
        let mut args = vec!["get", &kinds, columns, "--no-headers", "--ignore-not-found"];
        args.extend(scope);
        let table = s.kubectl.run(&args).await.succeeded();
        left.extend(table.lines().filter(|line| is_ours(s, line)).map(str::to_owned));
    }
    left
}

fn is_ours(s: &Scenario, line: &str) -> bool {
    let mut words = line.split_whitespace();
    let (kind, namespace) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let name = words.next().unwrap_or_default();
    let labels = words.collect::<Vec<_>>().join(" ");
    let of_release = labels.contains(&format!("app.kubernetes.io/instance:{}", s.env.release));
    match (kind, namespace, name) {
        // The user's own, and what every namespace has.
        ("Namespace" | "CustomResourceDefinition" | "APIService", ..) => false,
        ("ConfigMap", _, "kube-root-ca.crt") | ("ServiceAccount", _, "default") => false,
        (_, namespace, _) if namespace == s.env.namespace => true,
        _ => of_release || name.contains("paddock"),
    }
}
