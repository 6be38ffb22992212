//! Warnings become Events at the API server: few, and of objects that are there. On the double only: on a real API server
//! somebody else may write Events.

use std::time::{Duration, Instant};

use millrace_agent::{
    model::{ServiceKey, SliceKey},
    watch::{
        ObjectKey, Warning, WarningReason,
        kube::{self, Connection},
    },
};
use millrace_tests::apiserver::ApiServerDouble;
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    objects::{service, slice},
    shop::{IDLE, QUIET},
};

struct Writer {
    double: ApiServerDouble,
    warnings: mpsc::Sender<Warning>,
    _running: JoinHandle<()>,
}

impl Writer {
    async fn start() -> Self {
        let double = ApiServerDouble::start().await;
        let connection = Connection::new(Some(&double.url()), IDLE).await.unwrap();
        let (warnings, received) = mpsc::channel(1024);
        let running = tokio::spawn(async move { kube::write_events(connection, "n1", received).await });
        Self { double, warnings, _running: running }
    }

    fn apply(&self, name: &str) {
        let mut object = service("shop", name, "10.96.0.1");
        object["metadata"]["uid"] = json!(format!("uid-of-{name}"));
        self.double.apply(object);
    }

    fn warn(&self, name: &str, note: &str) {
        self.send(ObjectKey::Service(ServiceKey::new("shop", name)), note);
    }

    fn send(&self, object: ObjectKey, note: &str) {
        let warning = Warning { object, reason: WarningReason::NoRoom, note: note.to_owned() };
        self.warnings.try_send(warning).unwrap();
    }

    async fn until_writes(&self, count: usize) {
        let start = Instant::now();
        while self.double.event_writes() < count {
            let found = self.double.event_writes();
            assert!(start.elapsed() < Duration::from_secs(20), "{count} writes, not {found}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn a_warning_is_an_event_of_its_object_by_the_node_that_warns() {
    let writer = Writer::start().await;
    writer.apply("cart");
    writer.double.apply(slice("shop", "cart-1", "cart", &["10.0.0.1"]));
    writer.warn("cart", "the map SLOTS_V4 is full");
    writer.send(ObjectKey::EndpointSlice(SliceKey::new("shop", "cart-1")), &"é".repeat(2000));
    writer.until_writes(2).await;
    let events = writer.double.events();
    let part = |event: &Value, keys: &[&str]| keys.iter().fold(event.clone(), |value, key| value[*key].clone());
    for (keys, wanted) in [
        (&["type"][..], json!("Warning")),
        (&["reason"], json!("NoRoom")),
        (&["note"], json!("the map SLOTS_V4 is full")),
        (&["metadata", "namespace"], json!("shop")),
        (&["regarding", "kind"], json!("Service")),
        (&["regarding", "apiVersion"], json!("v1")),
        (&["regarding", "name"], json!("cart")),
        (&["regarding", "uid"], json!("uid-of-cart")),
        (&["reportingController"], json!("millrace-agent")),
        (&["reportingInstance"], json!("n1")),
    ] {
        assert_eq!(part(&events[0], keys), wanted, "{keys:?} of {}", events[0]);
    }
    assert_eq!(part(&events[1], &["regarding", "kind"]), json!("EndpointSlice"));
    let note = events[1]["note"].as_str().unwrap();
    assert!(note.len() <= 1000 && note.len() > 990, "an Event's note may have 1 kB: {}", note.len());
}

#[tokio::test]
async fn what_repeats_itself_is_one_event_that_counts_and_after_a_few_there_is_silence() {
    let writer = Writer::start().await;
    writer.apply("cart");
    for _ in 0..50 {
        // It changes between two warnings, and stays wrong.
        writer.apply("cart");
        writer.warn("cart", "still full");
    }
    writer.until_writes(3).await;
    tokio::time::sleep(QUIET).await;
    assert_eq!(writer.double.event_writes(), 3);
    let events = writer.double.events();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["series"]["count"], json!(3));
}

#[tokio::test]
async fn a_flood_of_wrong_objects_writes_a_few_dozen_events() {
    let writer = Writer::start().await;
    for number in 0..500 {
        writer.apply(&format!("s{number}"));
        writer.warn(&format!("s{number}"), "full");
    }
    writer.until_writes(32).await;
    tokio::time::sleep(QUIET).await;
    assert_eq!(writer.double.event_writes(), 32);
}

#[tokio::test]
async fn an_object_that_is_gone_has_no_event_and_a_server_that_refuses_is_asked_again_for_another() {
    let writer = Writer::start().await;
    writer.warn("gone", "full");
    writer.apply("cart");
    writer.double.refuse_events(Some(403));
    writer.warn("cart", "full");
    writer.until_writes(1).await;
    assert_eq!(writer.double.events(), [json!(null); 0]);
    writer.double.refuse_events(None);
    writer.apply("pay");
    writer.warn("pay", "full");
    writer.until_writes(2).await;
    let events = writer.double.events();
    assert_eq!(events.iter().map(|event| event["regarding"]["name"].clone()).collect::<Vec<_>>(), ["pay"]);
}
