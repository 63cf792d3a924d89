//! The end of a gateway: no turn is lost, and nobody is kept waiting.

use std::sync::Arc;
use std::time::Duration;

use paddock_gateway::server::accept::{DrainTimes, Drained};
use paddock_gateway::server::drain::Stage;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::runner::{FakeRunner, Script};
use super::support::{Setup, TestGateway, head, soon};

#[tokio::test]
async fn turns_in_flight_are_answered_and_nothing_else_is_taken() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    let go = Arc::new(Notify::new());
    runner.script(Script::EchoAfter(go.clone()));
    // One that has begun a request when the drain begins, and one that has not.
    let mut late = gateway.raw().await;
    late.write("GET /api/v1/managed_agents/ses").await.unwrap();
    let mut kept = gateway.raw().await;
    kept.write(format!("{}\r\n", head("GET", "/sessions"))).await.unwrap();
    assert!(kept.read_answer().await.starts_with("HTTP/1.1 200 "));

    let address = gateway.address;
    let turn = gateway.message("s1", "hi");
    let drain = async {
        runner.seen(1).await;
        gateway.stop.cancel();
        soon(gateway.gateway.drain.reached(Stage::Closing)).await;
        assert_eq!(kept.read_to_end().await, "");
        let rest = head("GET", "/sessions").split_off("GET /api/v1/managed_agents/ses".len());
        late.write(format!("{rest}\r\n")).await.unwrap();
        let answer = late.read_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"code\":\"draining\""), "{answer}");
        assert!(
            answer.contains("connection: close\r\n") && answer.contains("retry-after: 1\r\n"),
            "{answer}"
        );
        soon(async {
            while TcpStream::connect(address).await.is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        go.notify_one();
    };
    let (reply, ()) = tokio::join!(turn, drain);
    assert_eq!(reply.status, 200);
    assert_eq!(soon(gateway.served).await.unwrap().unwrap(), Drained::Completely);
}

#[tokio::test]
async fn for_a_moment_new_clients_are_served_and_sent_on() {
    let times = DrainTimes { leaving: Duration::from_secs(600), closing: Duration::ZERO };
    let gateway = TestGateway::with(Setup { drain: times, ..Setup::default() }).await;
    gateway.stop.cancel();
    soon(gateway.gateway.drain.reached(Stage::Leaving)).await;
    let reply = gateway.ask("GET", "/sessions", None).await;
    assert_eq!((reply.status, reply.header("connection")), (200, "close"));
}

#[tokio::test]
async fn what_outlasts_the_drain_is_cut_and_counted() {
    let times = DrainTimes { leaving: Duration::ZERO, closing: Duration::from_millis(50) };
    let gateway = TestGateway::with(Setup { drain: times, ..Setup::default() }).await;
    let runner = FakeRunner::start("pod-1").await;
    gateway.put_session("s1", runner.ready_status());
    let go = Arc::new(Notify::new());
    runner.script(Script::EchoAfter(go.clone()));
    let mut raw = gateway.raw().await;
    let body = r#"{"text":"hi"}"#;
    let request = format!(
        "{}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        head("POST", "/sessions/s1/message"),
        body.len()
    );
    raw.write(request).await.unwrap();
    runner.seen(1).await;
    gateway.stop.cancel();
    assert_eq!(soon(gateway.served).await.unwrap().unwrap(), Drained::Cut(1));
    // The turn itself goes on.
    go.notify_one();
    runner.finished(1).await;
}
