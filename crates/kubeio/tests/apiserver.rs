//! The same promises as in the unit tests, kept by a real kube-apiserver.
//!
//! Runs only if PADDOCK_TEST_KUBECONFIG names a kubeconfig with cluster-admin rights. Every test works in a namespace of
//! its own and removes it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod wire;

use std::io::Write;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ObjectReference, Pod};
use k8s_openapi::api::events::v1::Event as KubeEvent;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{CustomResource, ResourceExt};
use paddock_kubeio::client::{self, ClientOptions};
use paddock_kubeio::events::{Kind, Recorder};
use paddock_kubeio::lease::{Elector, LeaseTiming};
use paddock_kubeio::slim::{PodPhase, SlimPod};
use paddock_kubeio::watch::{self, Event, Freshness, Scope, WatchOptions};
use paddock_kubeio::write::{self, Precondition, WriteError};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::wire::{Mode, Wire};

const PROBES: &str = "probes.kubeio.test.paddock.dev";
const KUBECONFIG: &str = "PADDOCK_TEST_KUBECONFIG";

#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "kubeio.test.paddock.dev",
    version = "v1",
    kind = "Probe",
    namespaced,
    status = "ProbeStatus",
    schema = "disabled"
)]
struct ProbeSpec {
    count: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct ProbeStatus {
    word: String,
}

struct Place {
    client: kube::Client,
    namespace: String,
}

impl Place {
    async fn make(name: &str) -> Option<Self> {
        let config = configuration(name).await?;
        let client = client::from_config(config, ClientOptions::default()).unwrap();
        let namespace = format!("kubeio-{name}-{:x}", jiff::Timestamp::now().as_microsecond());
        let object: Namespace = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
        Api::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
        Some(Self { client, namespace })
    }

    async fn remove(self) {
        let namespaces: Api<Namespace> = Api::all(self.client);
        namespaces.delete(&self.namespace, &DeleteParams::background()).await.unwrap();
    }

    async fn config_map(&self, name: &str) -> write::Written {
        write::create(&self.client, &self.namespace, &config_map(name)).await.unwrap()
    }
}

async fn configuration(name: &str) -> Option<kube::Config> {
    let Ok(path) = std::env::var(KUBECONFIG) else {
        // Written past the test harness, which would swallow it.
        let line = format!("SKIPPED {name}: {KUBECONFIG} is not set\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
        return None;
    };
    let kubeconfig = Kubeconfig::read_from(path).unwrap();
    Some(kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap())
}

/// A client whose connections go through a wire.
async fn wired(name: &str) -> Option<(Wire, kube::Client)> {
    let mut config = configuration(name).await?;
    let host = config.cluster_url.host().unwrap().to_owned();
    let port = config.cluster_url.port_u16().unwrap_or(443);
    let server = tokio::net::lookup_host((host.as_str(), port)).await.unwrap().next().unwrap();
    let wire = Wire::to(server).await;
    config.cluster_url = format!("https://{}", wire.address).parse().unwrap();
    config.tls_server_name = Some(host);
    Some((wire, client::from_config(config, ClientOptions::default()).unwrap()))
}

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"a": "1"}})).unwrap()
}

fn at(uid: &str, version: Option<&str>) -> Precondition {
    Precondition { uid: uid.to_owned(), resource_version: version.map(str::to_owned) }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_happen_only_where_their_precondition_holds() {
    let Some(place) = Place::make("writes").await else { return };
    let (client, namespace) = (&place.client, place.namespace.as_str());
    let first = place.config_map("one").await;
    let stranger = "00000000-0000-0000-0000-000000000000";
    assert_eq!(write::create(client, namespace, &config_map("one")).await, Err(WriteError::AlreadyExists));

    let change = |value: &str| json!({"data": {"a": value}});
    let patch = |precondition, value| {
        write::merge_patch::<ConfigMap>(client, namespace, "one", precondition, change(value))
    };
    assert_eq!(patch(at(stranger, None), "stranger").await, Err(WriteError::Conflict));
    let second = patch(at(&first.uid, Some(&first.resource_version)), "2").await.unwrap();
    assert_eq!(second.uid, first.uid);
    assert_eq!(
        patch(at(&first.uid, Some(&first.resource_version)), "stale").await,
        Err(WriteError::Conflict)
    );
    patch(at(&first.uid, None), "3").await.unwrap();
    let read: ConfigMap = write::get(client, namespace, "one").await.unwrap().unwrap();
    assert_eq!(read.data.unwrap()["a"], "3");
    assert_eq!(
        write::merge_patch::<ConfigMap>(client, namespace, "none", at(&first.uid, None), change("x")).await,
        Err(WriteError::NotFound)
    );

    let delete = |precondition| write::delete::<ConfigMap>(client, namespace, "one", precondition, None);
    assert_eq!(delete(at(stranger, None)).await, Err(WriteError::Conflict));
    assert_eq!(delete(at(&first.uid, Some(&first.resource_version))).await, Err(WriteError::Conflict));
    assert_eq!(delete(at(&first.uid, None)).await, Ok(()));
    assert_eq!(delete(at(&first.uid, None)).await, Ok(()), "deleting what is gone is no error");
    assert_eq!(write::get::<ConfigMap>(client, namespace, "one").await, Ok(None));
    let rejected = write::create(client, namespace, &config_map("Not A Name")).await.unwrap_err();
    assert!(matches!(rejected, WriteError::Rejected { status: 422, .. }), "{rejected:?}");
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_writes_do_not_touch_another_object_of_the_same_name() {
    let Some(place) = Place::make("status").await else { return };
    let (client, namespace) = (&place.client, place.namespace.as_str());
    install_probes(client).await;

    let probe = Probe::new("one", ProbeSpec { count: 1 });
    let first = created_soon(client, namespace, &probe).await;
    let word = |word: &str| json!({"status": {"word": word}});
    let patch = |precondition, value| {
        write::merge_patch_status::<Probe>(client, namespace, "one", precondition, value)
    };
    patch(at(&first.uid, None), word("mine")).await.unwrap();
    let stranger = "00000000-0000-0000-0000-000000000000";
    assert_eq!(patch(at(stranger, None), word("stranger")).await, Err(WriteError::Conflict));
    assert_eq!(
        patch(at(&first.uid, Some(&first.resource_version)), word("stale")).await,
        Err(WriteError::Conflict)
    );
    let read: Probe = write::get(client, namespace, "one").await.unwrap().unwrap();
    assert_eq!(read.status.unwrap().word, "mine");

    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "pod"},
        "spec": {"schedulerName": "nobody", "automountServiceAccountToken": false,
                 "containers": [{"name": "c", "image": "localhost/none:none"}]},
    }))
    .unwrap();
    let pod = created_soon(client, namespace, &pod).await;
    let patch = |precondition, message: &str| {
        let patch = json!({"status": {"message": message}});
        write::merge_patch_status::<Pod>(client, namespace, "pod", precondition, patch)
    };
    patch(at(&pod.uid, None), "mine").await.unwrap();
    assert_eq!(patch(at(stranger, None), "stranger").await, Err(WriteError::Conflict));
    let read: SlimPod = write::get(client, namespace, "pod").await.unwrap().unwrap();
    assert_eq!(read.status.message.as_deref(), Some("mine"));
    assert_eq!(read.status.phase, PodPhase::Pending);
    write::delete::<Pod>(client, namespace, "pod", at(&pod.uid, None), Some(0)).await.unwrap();
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions.delete(PROBES, &DeleteParams::background()).await.unwrap();
    place.remove().await;
}

/// A new namespace has no service account, and a new kind is not served, for a moment.
async fn created_soon<K>(client: &kube::Client, namespace: &str, object: &K) -> write::Written
where
    K: kube::Resource<DynamicType = ()> + Serialize,
{
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match write::create(client, namespace, object).await {
            Ok(written) => return written,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn install_probes(client: &kube::Client) {
    let definition: CustomResourceDefinition = serde_json::from_value(json!({
        "metadata": {"name": PROBES},
        "spec": {
            "group": "kubeio.test.paddock.dev", "scope": "Namespaced",
            "names": {"kind": "Probe", "plural": "probes", "singular": "probe", "listKind": "ProbeList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
        },
    }))
    .unwrap();
    Api::all(client.clone()).create(&PostParams::default(), &definition).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_what_is_there_and_then_what_changes() {
    let Some(place) = Place::make("watch").await else { return };
    let (client, namespace) = (&place.client, place.namespace.as_str());
    let first = place.config_map("one").await;

    let (task, freshness, mut seen) = follow(client.clone(), namespace);
    let mut next = async || timeout(Duration::from_secs(10), seen.recv()).await.unwrap().unwrap();

    let Event::Synced(objects) = next().await else { panic!("the first event replaces everything") };
    assert_eq!(objects.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["one"]);
    place.config_map("two").await;
    assert!(matches!(next().await, Event::Applied(object) if object.name_any() == "two"));
    write::delete::<ConfigMap>(client, namespace, "one", at(&first.uid, None), None).await.unwrap();
    assert!(matches!(next().await, Event::Deleted(object) if object.name_any() == "one"));
    assert!(freshness.synced());
    assert_eq!(freshness.errors(), 0);

    drop(seen);
    place.config_map("three").await;
    timeout(Duration::from_secs(10), task).await.expect("a closed sink ends the watch").unwrap();
    place.remove().await;
}

type Seen = mpsc::UnboundedReceiver<Event<ConfigMap>>;

fn follow(client: kube::Client, namespace: &str) -> (tokio::task::JoinHandle<()>, Freshness, Seen) {
    let (events, seen) = mpsc::unbounded_channel();
    let freshness = Freshness::new();
    let options = WatchOptions {
        scope: Scope::Namespace(namespace.to_owned()),
        label_selector: None,
        field_selector: Some("metadata.name!=kube-root-ca.crt".to_owned()),
    };
    let task = tokio::spawn(watch::run::<ConfigMap, _>(client, options, freshness.clone(), move |event| {
        events.send(event).map_err(|_| watch::Closed)
    }));
    (task, freshness, seen)
}

async fn applied(seen: &mut Seen, name: &str, within: Duration) -> Duration {
    let begun = Instant::now();
    match timeout(within, seen.recv()).await {
        Ok(Some(Event::Applied(object))) => assert_eq!(object.name_any(), name),
        other => panic!("{other:?} instead of {name} after {:?}", begun.elapsed()),
    }
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_within_five_seconds_when_the_server_is_back() {
    let Some(place) = Place::make("outage").await else { return };
    let Some((wire, client)) = wired("outage").await else { return };
    let (_task, freshness, mut seen) = follow(client, &place.namespace);
    assert!(matches!(seen.recv().await, Some(Event::Synced(_))));
    place.config_map("one").await;
    applied(&mut seen, "one", Duration::from_secs(5)).await;
    wire.set(Mode::Cut);
    place.config_map("two").await;
    sleep(Duration::from_secs(10)).await;
    assert!(freshness.stale_for() > Duration::from_secs(9));
    wire.set(Mode::Pass);
    let took = applied(&mut seen, "two", Duration::from_secs(5)).await;
    assert!(freshness.errors() > 0, "after {took:?}");
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_is_open_at_one_end_only_is_noticed_within_sixty_seconds() {
    let Some(place) = Place::make("frozen").await else { return };
    let Some((wire, client)) = wired("frozen").await else { return };
    let (_task, freshness, mut seen) = follow(client, &place.namespace);
    assert!(matches!(seen.recv().await, Some(Event::Synced(_))));
    place.config_map("one").await;
    applied(&mut seen, "one", Duration::from_secs(5)).await;
    wire.freeze();
    place.config_map("two").await;
    let took = applied(&mut seen, "two", Duration::from_secs(60)).await;
    assert!(took > Duration::from_secs(1), "the wire was frozen");
    assert!(freshness.errors() > 0);
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consistent_list_follows_its_pages_and_selector() {
    let Some(place) = Place::make("list").await else { return };
    let (client, namespace) = (&place.client, place.namespace.as_str());
    for index in 0..3 {
        let mut object = config_map(&format!("marked-{index}"));
        object.metadata.labels = Some([("mark".to_owned(), "yes".to_owned())].into());
        write::create(client, namespace, &object).await.unwrap();
    }
    place.config_map("unmarked").await;
    let found: Vec<ConfigMap> = write::list(client, namespace, "mark=yes").await.unwrap();
    assert_eq!(found.len(), 3);
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_candidates_one_leads_and_the_other_follows_when_it_stops_or_dies() {
    let Some(place) = Place::make("lease").await else { return };
    let candidate = |identity: &str| {
        let (state, leading) = tokio::sync::watch::channel(false);
        let stop = CancellationToken::new();
        let elector =
            Elector::new(place.client.clone(), &place.namespace, "leader", identity, LeaseTiming::default());
        (tokio::spawn(elector.run(state, stop.clone())), leading, stop)
    };
    let (first, mut first_leads, first_stop) = candidate("first");
    timeout(Duration::from_secs(5), first_leads.wait_for(|leads| *leads)).await.unwrap().unwrap();
    let (second, mut second_leads, _second_stop) = candidate("second");
    sleep(LeaseTiming::default().lease_duration * 2).await;
    assert!(!*second_leads.borrow(), "a living leader keeps the lease");

    let begun = Instant::now();
    first_stop.cancel();
    timeout(Duration::from_secs(5), second_leads.wait_for(|leads| *leads)).await.unwrap().unwrap();
    let handed_over = begun.elapsed();
    assert!(handed_over < Duration::from_secs(1), "{handed_over:?}");
    first.await.unwrap();

    let (_third, mut third_leads, third_stop) = candidate("third");
    sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    second.abort();
    timeout(Duration::from_secs(5), third_leads.wait_for(|leads| *leads)).await.unwrap().unwrap();
    let taken_over = begun.elapsed();
    assert!(taken_over < Duration::from_secs(3), "{taken_over:?}");
    third_stop.cancel();
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_event_is_one_object_with_a_note() {
    let Some(place) = Place::make("events").await else { return };
    let (client, namespace) = (&place.client, place.namespace.as_str());
    let written = place.config_map("one").await;
    let about = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("ConfigMap".to_owned()),
        name: Some("one".to_owned()),
        namespace: Some(namespace.to_owned()),
        uid: Some(written.uid),
        ..ObjectReference::default()
    };
    let recorder = Recorder::new(client.clone(), "paddock-test", "test-0");
    for _ in 0..3 {
        recorder.publish(about.clone(), Kind::Warning, "Tested", "the message".to_owned());
    }
    recorder.publish(about, Kind::Normal, "Other", "another".to_owned());
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let found: Vec<KubeEvent> = write::list(client, namespace, "").await.unwrap();
        if found.iter().any(|event| event.reason.as_deref() == Some("Other")) {
            let tested: Vec<_> =
                found.iter().filter(|event| event.reason.as_deref() == Some("Tested")).collect();
            assert_eq!(tested.len(), 1);
            assert_eq!(tested[0].note.as_deref(), Some("the message"));
            assert_eq!(tested[0].type_.as_deref(), Some("Warning"));
            break;
        }
        assert!(Instant::now() < deadline, "dropped: {}", recorder.dropped());
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(recorder.dropped(), 0);
    place.remove().await;
}
