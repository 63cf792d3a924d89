//! Writes that are done, and whose author never hears of it.

use std::time::Duration;

use jiff::Timestamp;

use crate::SERVER;
use crate::place::{Place, millis};
use crate::proxy::{Call, Fault, Rule, When};

#[tokio::test(flavor = "multi_thread")]
async fn every_third_write_loses_its_answer() {
    let _up = SERVER.read().await;
    let Some(place) = Place::make("lost answers", 4).await else { return };
    let (_controller, proxy) = place.with_controller().await;
    proxy.rules(vec![
        Rule::new(Call::is_work, When::Every(3), Fault::LoseAnswer),
        Rule::new(Call::is_work, When::Every(7), Fault::CutAnswer),
    ]);
    let begun = Timestamp::now();
    let names = place.sessions(10).await;
    place.all_ready(&names, Duration::from_secs(30)).await;
    let lost = proxy.log().iter().filter(|call| call.disturbed).count();
    place.tell(&format!(
        "10 sessions Ready after {}, {lost} answers lost or cut",
        millis(begun, Timestamp::now())
    ));
    place.settles(proxy.calm()).await;
    place.verify().await;
}
