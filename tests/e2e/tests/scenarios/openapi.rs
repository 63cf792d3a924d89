//! The gateway describes itself. That it does as it says is checked with every answer of every scenario (`paddock_e2e::contract`).

use std::time::Duration;

use paddock_e2e::{Share, contract, scenario};
use reqwest::Method;

#[tokio::test]
async fn the_document_is_that_of_the_repository_and_needs_no_key() {
    scenario("OpenAPI document", Share::Shared, Duration::from_secs(60), async |s| {
        let ask = || s.http.anonymous(Method::GET, "/openapi.json");
        let told = s.http.send(ask()).await;
        assert_eq!(told.with_status(200), contract::document());
        let again = s.http.send(ask().header("if-none-match", told.header("etag"))).await;
        assert_eq!((again.status.as_u16(), again.body.len()), (304, 0));
    })
    .await;
}
