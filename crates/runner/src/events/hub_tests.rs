use super::*;

const FIRST: u64 = 1000;

fn hub(events: usize) -> Arc<Hub> {
    let hub = Hub::with(2, FIRST, Bounds { events, bytes: 1 << 20 });
    hub.subscribed(true);
    hub
}

fn say(hub: &Hub, number: u64) {
    hub.said(RawValue::from_string(number.to_string()).unwrap(), false);
}

fn id(incarnation: u32, seq: u64) -> Option<EventId> {
    Some(EventId { incarnation, seq })
}

/// What the reader gets until nothing more is there: numbers of events, and gaps by their word.
async fn read(reader: &mut Reader) -> Vec<String> {
    let mut told = Vec::new();
    while let Ok(line) = timeout(Duration::ZERO, reader.next()).await {
        let Some(line) = line else { break };
        assert_eq!(line.last(), Some(&b'\n'));
        let line: EventLine = serde_json::from_slice(&line).unwrap();
        told.push(match (&line.event, line.gap) {
            (Some(event), None) => event.get().to_owned(),
            (None, Some(gap)) => gap.as_str().to_owned(),
            (None, None) => format!("from {}", line.id),
            (Some(_), Some(_)) => panic!("both: {line:?}"),
        });
    }
    told
}

#[tokio::test(start_paused = true)]
async fn readers_follow_from_where_they_are() {
    let hub = hub(10);
    say(&hub, 1);
    let mut early = hub.reader(None).await.unwrap();
    say(&hub, 2);
    assert_eq!(read(&mut early).await, ["from 2.1000", "2"]);
    say(&hub, 3);
    assert_eq!(read(&mut early).await, ["3"]);
    let mut late = hub.reader(id(2, 1000)).await.unwrap();
    assert_eq!(read(&mut late).await, ["from 2.1000", "2", "3"], "those after the one it had");
    let mut at_end = hub.reader(id(2, 1002)).await.unwrap();
    assert_eq!(read(&mut at_end).await, ["from 2.1002"]);
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_what_is_not_known_is_told_so_and_gets_all_there_is() {
    let hub = hub(2);
    let mut before_all = hub.reader(id(1, 7)).await.unwrap();
    assert_eq!(read(&mut before_all).await, ["from 2.999", "unknown_id"]);
    (1..=3).for_each(|number| say(&hub, number));
    for (asked, expected) in [
        (id(2, 1000), vec!["from 2.1000", "2", "3"]),
        (id(2, 999), vec!["from 2.1000", "unknown_id", "2", "3"]),
        (id(2, 1003), vec!["from 2.1000", "unknown_id", "2", "3"]),
        (id(1, 1001), vec!["from 2.1000", "unknown_id", "2", "3"]),
        (id(3, 1001), vec!["from 2.1000", "unknown_id", "2", "3"]),
        (id(0, 0), vec!["from 2.1000", "unknown_id", "2", "3"]),
    ] {
        let mut reader = hub.reader(asked).await.unwrap();
        assert_eq!(read(&mut reader).await, expected, "{asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_told_what_it_missed_and_others_do_not_wait_for_it() {
    let hub = hub(3);
    let mut slow = hub.reader(None).await.unwrap();
    let mut quick = hub.reader(None).await.unwrap();
    read(&mut quick).await;
    for number in 1..=10 {
        say(&hub, number);
        assert_eq!(read(&mut quick).await, [number.to_string()]);
    }
    assert_eq!(read(&mut slow).await, ["from 2.999", "slow_reader", "8", "9", "10"]);
    say(&hub, 11);
    assert_eq!(read(&mut slow).await, ["11"]);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_beats_and_a_closed_one_ends_after_its_last_event() {
    let hub = hub(3);
    let mut reader = hub.reader(None).await.unwrap();
    reader.next().await.unwrap();
    let begun = tokio::time::Instant::now();
    assert_eq!(reader.next().await.unwrap(), "\n");
    assert_eq!(begun.elapsed(), HEARTBEAT);
    say(&hub, 1);
    hub.close();
    assert_eq!(read(&mut reader).await, ["1"]);
    assert_eq!(reader.next().await, None);
    hub.closed().await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_waits_for_the_subscription_and_not_for_ever() {
    let hub = Hub::with(2, FIRST, KEPT);
    let begun = tokio::time::Instant::now();
    let subscribe = async {
        tokio::task::yield_now().await;
        hub.subscribed(true);
    };
    let (reader, ()) = tokio::join!(hub.reader(None), subscribe);
    assert!(reader.is_ok() && begun.elapsed().is_zero());
    hub.subscribed(false);
    assert!(hub.reader(None).await.is_ok());
    assert_eq!(begun.elapsed(), SUBSCRIPTION_WAIT);
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_readers_get_every_event_and_one_more_is_refused() {
    let hub = hub(100);
    let mut readers = Vec::new();
    for _ in 0..READERS {
        readers.push(hub.reader(None).await.unwrap());
    }
    let refused = hub.reader(None).await.err().unwrap();
    assert_eq!(refused.code, ErrorCode::TooManyStreams);
    (1..=50).for_each(|number| say(&hub, number));
    let expected: Vec<String> = (1..=50).map(|number: u64| number.to_string()).collect();
    for reader in &mut readers {
        assert_eq!(read(reader).await[1..], expected);
    }
    readers.pop();
    assert!(hub.reader(None).await.is_ok());
}

#[test]
fn a_hub_s_numbers_go_on_after_those_of_one_before_it() {
    let before = Hub::new(1);
    say(&before, 1);
    let begun = std::time::Instant::now();
    while Hub::new(1).ring().latest() <= before.ring().latest() {
        assert!(begun.elapsed() < Duration::from_secs(10), "the clock stands still");
    }
}
