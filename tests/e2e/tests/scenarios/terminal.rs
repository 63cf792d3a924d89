//! A session with a terminal: people attach, leave and come back, and the program stays.

use std::time::Duration;

use paddock_e2e::scenario::{name_of, uid};
use paddock_e2e::terminal::{Terminal, path};
use paddock_e2e::{Scenario, Share, scenario};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(1200);

#[tokio::test]
async fn a_shell_outlives_its_clients_and_their_gateway() {
    scenario("a terminal", Share::Alone, LIMIT, async |s| {
        let pool = s.private_pool("tty").harness("terminal").replicas(1).create().await;
        let agent = s.agent("tty", json!({ "harness": "terminal", "poolRef": { "name": pool } })).await;
        let session = name_of(&s.ready_session("tty", &agent).await);
        let shown = s.http.get(&format!("/sessions/{session}")).await.with_status(200);
        let tty_url = path(&session);
        assert_eq!((&shown["supports_tui"], &shown["tty_url"]), (&json!(true), &json!(tty_url)));
        assert_eq!(s.http.get(&format!("/agents/{agent}")).await.with_status(200)["supports_tui"], true);

        // Typed text does not hold the words that are looked for: they are what the shell makes of it.
        let (word, kept) = (s.word("said"), s.word("kept"));
        let mut first = s.attach(&session).await;
        first.enter(&format!("echo {}\"\"{}; KEPT={kept}", &word[..4], &word[4..])).await;
        first.shows(&word).await;
        first.enter("stty size; pwd; id -u").await;
        first.shows("30 100\n/workspace\n1000").await;
        let mut second =
            Terminal::attach(&s.env.url, &tty_url, &token(s, &session).await).await.expect("attached");
        second.shows(&word).await;
        second.enter("echo ei\"\"ther").await;
        first.shows("either").await;

        let refused = s.http.say(&session, "hello").await.error(409, Some("terminal_only"));
        assert_eq!(refused["tty_url"], tty_url);
        let prompted = json!({ "initial_prompt": "hello" });
        s.http.post(&format!("/agents/{agent}/session"), &prompted).await.error(400, Some("unsupported"));

        who_is_not_let_in(s, &session, &agent).await;

        // An orderly end of the gateway, and then a sudden one.
        let old = s.the_gateway().await;
        s.kubectl.run(&["delete", "pod", &name_of(&old), "--wait=false"]).await.succeeded();
        for client in [&mut first, &mut second] {
            let (code, reason) = client.closed().await;
            assert_eq!(code, 1001, "{reason}");
            assert!(reason.contains("shutting down"), "{reason}");
        }
        let mut again = s.attach_to_another(&session, &uid(&old)).await;
        again.shows("either").await;
        again.enter("echo is=$KEPT").await;
        again.shows(&format!("is={kept}")).await;
        let old = s.the_gateway().await;
        let killed = std::slice::from_ref(&old);
        assert_eq!(s.sigkill_gateways(killed).await, 1, "the gateway runs on this machine");
        s.remove_pods(killed).await;
        let mut again = s.attach_to_another(&session, &uid(&old)).await;
        again.enter("echo still=$KEPT").await;
        again.shows(&format!("still={kept}")).await;

        // The program may end, and begin again.
        again.enter("exit 7").await;
        again.shows("exit code 7").await;
        again.enter("").await;
        again.enter("echo ne\"\"w=$KEPT.").await;
        again.shows("new=.").await;

        s.http.post(&format!("/sessions/{session}/stop"), &json!({})).await.with_status(200);
        let (code, reason) = again.closed().await;
        assert_eq!(code, 1001, "{reason}");
    })
    .await;
}

/// The token that the session shows now.
async fn token(s: &Scenario, session: &str) -> String {
    let shown = s.http.get(&format!("/sessions/{session}")).await.with_status(200);
    shown["tty_token"].as_str().expect("a token for the terminal").to_owned()
}

async fn who_is_not_let_in(s: &Scenario, session: &str, agent: &str) {
    let other = name_of(&s.ready_session("other", agent).await);
    let (ours, theirs) = (token(s, session).await, token(s, &other).await);
    // Its signature is of other claims.
    let (claims, signature) =
        (ours.rsplit_once('.').expect("a JWT").0, theirs.rsplit_once('.').expect("a JWT").1);
    for wrong in ["", "wrong", &theirs, &format!("{claims}.{signature}")] {
        let refused = Terminal::attach(&s.env.url, &path(session), wrong).await.err().expect("refused");
        assert_eq!((refused.status, refused.code.as_str()), (401, "unauthorized"), "{wrong}");
    }
    s.http.with_key(&ours).get(&format!("/sessions/{session}")).await.error(401, Some("unauthorized"));
    s.http.get(&format!("/sessions/{session}/tty")).await.error(426, Some("upgrade_required"));
    s.http.delete(&format!("/sessions/{other}")).await.with_status(200);
    let refused = Terminal::attach(&s.env.url, &path(&other), &s.env.key).await.err().expect("refused");
    assert_eq!((refused.status, refused.code.as_str()), (404, "dead"));
}
