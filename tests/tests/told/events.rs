//! The owner of a Service that is skipped, or not programmed as it says, finds out by `kubectl describe`.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::cluster::{Cluster, service, slice};

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 96, 16, number)
}

/// Reason, uid of the object and note of each Event.
fn events(cluster: &Cluster) -> Vec<[String; 3]> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let event = |event: &Value| [text(&event["reason"]), text(&event["regarding"]["uid"]), text(&event["note"])];
    cluster.server.events().iter().map(event).collect()
}

fn until_told(cluster: &Cluster, reason: &str, uid: &str, remedy: &str) {
    cluster.until(&format!("an Event {reason} of {uid}, with {remedy}"), |cluster| {
        events(cluster).iter().any(|[of, object, note]| of == reason && object == uid && note.contains(remedy))
    });
}

#[test]
fn services_that_are_wrong_or_do_not_fit_have_a_warning_event_and_the_others_have_none() {
    let mut senseless = service("senseless", address(9), json!({}));
    senseless["spec"]["ports"] = json!([]);
    let fits = [service("cart", address(1), json!({})), slice("cart", "n1", None)];
    let cluster = Cluster::start(fits.into_iter().chain([senseless]), &["--max-services", "1"]);
    until_told(&cluster, "Rejected", "uid-of-senseless", "spec.ports");
    cluster.server.apply(service("large", address(2), json!({})));
    until_told(&cluster, "NoRoom", "uid-of-large", "raise --max-services");
    let named: Vec<_> = events(&cluster).into_iter().map(|[_, uid, _]| uid).collect();
    assert!(!named.contains(&"uid-of-cart".to_owned()), "{named:?}");

    // Wrong again and again: no more than a few.
    for port in 0..20 {
        let mut senseless = service("senseless", address(9), json!({}));
        senseless["spec"]["ports"] = json!([{"port": 70_000 + port, "protocol": "TCP"}]);
        cluster.server.apply(senseless);
    }
    cluster.until("all of it has been read", |cluster| {
        cluster.metric("millrace_rejected_objects_total").is_some_and(|count| count >= 5.0)
    });
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(cluster.server.event_writes() <= 5, "{}: {:?}", cluster.server.event_writes(), events(&cluster));
}

#[test]
fn an_agent_that_may_not_write_events_says_so_once_and_serves_on() {
    let cluster = Cluster::start([], &["--max-services", "1"]);
    cluster.server.refuse_events(Some(403));
    for number in 1..4 {
        cluster.server.apply(service(&format!("s{number}"), address(number), json!({})));
    }
    cluster.until_metric("millrace_waiting_ports", 2.0);
    cluster.until("the server has been asked for both", |cluster| cluster.server.event_writes() == 2);
    let log = cluster.agent.log_tail();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("no Event is written")).collect();
    assert!(
        matches!(lines[..], [line] if line.contains("events.k8s.io") && line.contains("create and patch")),
        "{log}"
    );
    assert_eq!(cluster.ask(10256, "/healthz").unwrap().status, 200);
}
