//! The API server as the source: whatever happens on the way, the source ends with the server's view, and nothing is
//! taken away because a list was slow or failed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where, at once")]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use millrace_agent::watch::kube::{self, Connection, Settings};
use millrace_tests::{
    apiserver::{ApiServerDouble, Disturbance, Fault, Kind, Server, Verb},
    view::View,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// In place of the 90 seconds after which a silent connection counts as dead.
const IDLE: Duration = Duration::from_millis(400);
/// Long enough for a change that should not come to come.
const QUIET: Duration = Duration::from_millis(300);

fn service(namespace: &str, name: &str, address: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "clusterIP": address, "clusterIPs": [address],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}],
        },
    })
}

fn slice(namespace: &str, name: &str, service: &str, addresses: &[&str]) -> Value {
    let endpoints: Vec<_> =
        addresses.iter().map(|it| json!({"addresses": [it], "conditions": {"ready": true}})).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": namespace, "name": name, "labels": {"kubernetes.io/service-name": service}},
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints,
    })
}

fn node(name: &str, zone: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
    })
}

fn cidr(name: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": name},
        "spec": {"cidrs": ["10.96.0.0/16"]},
    })
}

fn labelled(mut object: Value, label: &str, value: &str) -> Value {
    object["metadata"]["labels"][label] = json!(value);
    object
}

/// The source, on its way.
fn follow(connection: Connection, proxy_name: Option<&str>) -> (View, JoinHandle<()>) {
    let (view, output) = View::new();
    let settings = Settings { node_name: "n1".to_owned(), proxy_name: proxy_name.map(str::to_owned) };
    let running = tokio::spawn(async move { kube::run(&connection, &settings, &output).await });
    (view, running)
}

/// Addresses by name: what the server has of a kind, in the test's namespace.
async fn at_server(server: &Server, kind: Kind) -> BTreeMap<String, Vec<String>> {
    let addresses = |object: &Value| match kind {
        Kind::Service => object["spec"]["clusterIPs"].as_array().unwrap().clone(),
        _ => object["endpoints"].as_array().unwrap().iter().map(|endpoint| endpoint["addresses"][0].clone()).collect(),
    };
    let entry = |object: &Value| {
        let addresses = addresses(object).iter().map(|it| it.as_str().unwrap().to_owned()).collect();
        (object["metadata"]["name"].as_str().unwrap().to_owned(), addresses)
    };
    server.objects(kind).await.iter().map(entry).collect()
}

/// The same, as the source has it.
fn in_view(view: &View, namespace: &str, kind: Kind) -> BTreeMap<String, Vec<String>> {
    let prefix = format!("{namespace}/");
    let services =
        view.services.iter().map(|(key, it)| (key, it.cluster_ips.iter().map(ToString::to_string).collect()));
    let slices =
        view.slices.iter().map(|(key, it)| (key, it.endpoints.iter().map(|it| it.address.to_string()).collect()));
    let all: BTreeMap<&String, Vec<String>> = if kind == Kind::Service { services.collect() } else { slices.collect() };
    all.into_iter().filter_map(|(key, addresses)| Some((key.strip_prefix(&prefix)?.to_owned(), addresses))).collect()
}

/// Waits until the source sees what the server has.
async fn until_equal(view: &mut View, server: &Server) {
    for kind in [Kind::Service, Kind::EndpointSlice] {
        let expected = at_server(server, kind).await;
        let namespace = server.namespace();
        view.until(&format!("{kind:?}s are {expected:?}"), |view| in_view(view, namespace, kind) == expected).await;
    }
}

/// As soon as a watch of Services is open, disturbs it.
async fn disturb(double: &ApiServerDouble, disturbance: Disturbance) {
    let start = Instant::now();
    while double.disturb(Kind::Service, disturbance) == 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "no watch is open");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A double with a small shop on it, and a source in sync with it. Only for faults: no real API server can be told to
/// fail, so these tests never run on one.
struct Shop {
    server: Server,
    view: View,
}

impl Shop {
    async fn open() -> Self {
        let server = Server::Double(ApiServerDouble::start().await);
        for (name, address) in [("cart", "10.96.0.1"), ("pay", "10.96.0.2")] {
            server.apply(service("shop", name, address)).await;
            server.apply(slice("shop", &format!("{name}-1"), name, &["10.0.0.1", "10.0.0.2"])).await;
        }
        let (mut view, _) = follow(server.connection(IDLE), None);
        view.until_synced().await;
        let shop = Self { server, view };
        shop.disturb(Disturbance::Bookmark).await;
        shop
    }

    fn double(&self) -> &ApiServerDouble {
        let Server::Double(double) = &self.server else { unreachable!("the shop is on a double") };
        double
    }

    fn lists(&self) -> usize {
        self.double().asked(Kind::Service, Verb::List).len()
    }

    async fn apply(&self, name: &str, address: &str) {
        self.server.apply(service("shop", name, address)).await;
    }

    async fn disturb(&self, disturbance: Disturbance) {
        disturb(self.double(), disturbance).await;
    }

    async fn until_equal(&mut self) {
        until_equal(&mut self.view, &self.server).await;
    }
}

#[tokio::test]
async fn what_is_there_is_said_before_the_source_is_in_sync_and_what_changes_after() {
    for server in Server::all("changes").await {
        let namespace = server.namespace().to_owned();
        server.apply(service(&namespace, "cart", "10.96.0.1")).await;
        server.apply(slice(&namespace, "cart-1", "cart", &["10.0.0.1"])).await;
        let (mut view, _) = follow(server.connection(kube::IDLE_TIMEOUT), None);
        view.until_synced().await;
        until_equal(&mut view, &server).await;

        server.apply(service(&namespace, "pay", "10.96.0.2")).await;
        server.apply(slice(&namespace, "cart-1", "cart", &["10.0.0.1", "10.0.0.2"])).await;
        until_equal(&mut view, &server).await;

        server.delete(Kind::EndpointSlice, "cart-1").await;
        server.delete(Kind::Service, "cart").await;
        until_equal(&mut view, &server).await;
        assert_eq!(view.synced, 1);
        server.clean().await;
    }
}

#[tokio::test]
async fn services_of_another_proxy_and_headless_ones_are_left_out_by_the_server_and_gone_once_they_become_so() {
    for server in Server::all("selectors").await {
        let namespace = server.namespace().to_owned();
        let other = |name| {
            labelled(service(&namespace, name, "10.96.0.9"), "service.kubernetes.io/service-proxy-name", "other")
        };
        server.apply(service(&namespace, "cart", "10.96.0.1")).await;
        server.apply(other("theirs")).await;
        server
            .apply(labelled(slice(&namespace, "h-1", "h", &["10.0.0.1"]), "service.kubernetes.io/headless", ""))
            .await;
        let (mut view, _) = follow(server.connection(kube::IDLE_TIMEOUT), None);
        view.until_synced().await;
        assert_eq!(in_view(&view, &namespace, Kind::Service).into_keys().collect::<Vec<_>>(), ["cart"]);
        assert!(in_view(&view, &namespace, Kind::EndpointSlice).is_empty());

        server.apply(other("cart")).await;
        view.until("the service is gone", |view| in_view(view, &namespace, Kind::Service).is_empty()).await;

        let (mut view, _) = follow(server.connection(kube::IDLE_TIMEOUT), Some("other"));
        view.until_synced().await;
        assert_eq!(in_view(&view, &namespace, Kind::Service).into_keys().collect::<Vec<_>>(), ["cart", "theirs"]);
        server.clean().await;
    }
}

#[tokio::test]
async fn the_double_shows_that_selectors_pages_and_bookmarks_are_asked_for() {
    let double = ApiServerDouble::start().await;
    double.apply(node("n1", "z1"));
    double.apply(node("n2", "z2"));
    double.apply(cidr("kubernetes"));
    for number in 0..1201 {
        double.apply(service("shop", &format!("s{number:04}"), "10.96.0.1"));
    }
    let connection = Connection::new(Some(&double.url()), IDLE).await.unwrap();
    let (mut view, _) = follow(connection, None);
    view.until_synced().await;
    assert_eq!(view.services.len(), 1201);
    assert_eq!(view.cidrs.len(), 1);
    assert_eq!(view.node.as_ref().unwrap().zone.as_deref(), Some("z1"));

    let lists = double.asked(Kind::Service, Verb::List);
    assert_eq!(lists.iter().map(|list| list.parameter("limit")).collect::<Vec<_>>(), ["500"; 3]);
    let selector = "!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name";
    assert!(lists.iter().all(|list| list.parameter("labelSelector") == selector));
    assert_eq!(double.asked(Kind::Node, Verb::List)[0].parameter("fieldSelector"), "metadata.name=n1");
    double.apply(node("n1", "z3"));
    view.until("the node moves", |view| view.node.as_ref().unwrap().zone.as_deref() == Some("z3")).await;
    let watch = &double.asked(Kind::Service, Verb::Watch)[0];
    assert_eq!(watch.parameter("allowWatchBookmarks"), "true");
    assert_eq!(watch.parameter("labelSelector"), selector);
    assert!((240..290).contains(&watch.parameter("timeoutSeconds").parse().unwrap()));
}

#[tokio::test]
async fn a_watch_that_ends_or_breaks_is_resumed_where_it_was_without_a_new_list() {
    for disturbance in [Disturbance::End, Disturbance::CutMidLine, Disturbance::Error(500), Disturbance::Garbage] {
        let mut shop = Shop::open().await;
        let lists = shop.lists();
        for round in 0..3 {
            shop.disturb(disturbance).await;
            // While nobody watches, or just after.
            shop.apply("cart", &format!("10.96.1.{round}")).await;
            shop.server.apply(slice("shop", "cart-1", "cart", &["10.0.0.9"])).await;
            shop.until_equal().await;
        }
        assert_eq!(shop.lists(), lists, "{disturbance:?} made it list anew");
        assert_eq!(shop.view.deletes, [""; 0], "{disturbance:?}");
    }
}

#[tokio::test]
async fn a_delete_that_happens_while_nobody_watches_is_not_missed() {
    let mut shop = Shop::open().await;
    shop.disturb(Disturbance::CutMidLine).await;
    shop.server.delete(Kind::Service, "cart").await;
    shop.until_equal().await;
    assert_eq!(shop.view.deletes, ["shop/cart"]);
}

#[tokio::test]
async fn a_connection_that_falls_silent_is_given_up_and_made_anew() {
    let mut shop = Shop::open().await;
    shop.disturb(Disturbance::Stall).await;
    shop.apply("cart", "10.96.1.1").await;
    shop.until_equal().await;
    assert_eq!(shop.view.deletes, [""; 0]);
}

#[tokio::test]
async fn a_quiet_watch_with_bookmarks_is_not_taken_for_a_dead_one_and_resumes_from_the_last_bookmark() {
    let mut shop = Shop::open().await;
    let other_kind = |number: usize| cidr(&format!("range-{number}"));
    shop.disturb(Disturbance::Bookmark).await;
    let watches = shop.double().asked(Kind::Service, Verb::Watch).len();
    for number in 0..6 {
        // The version moves on, though not by this kind.
        shop.double().apply(other_kind(number));
        tokio::time::sleep(IDLE / 3).await;
        shop.disturb(Disturbance::Bookmark).await;
    }
    assert_eq!(shop.double().asked(Kind::Service, Verb::Watch).len(), watches, "a quiet watch was given up");

    // All that the source knew from the list is compacted; only the bookmark is new enough.
    tokio::time::sleep(IDLE / 10).await;
    let lists = shop.lists();
    shop.double().compact();
    shop.disturb(Disturbance::End).await;
    shop.apply("cart", "10.96.1.1").await;
    shop.until_equal().await;
    assert_eq!(shop.lists(), lists, "a bookmark saves the new list");
}

#[tokio::test]
async fn a_version_that_is_gone_leads_to_a_new_list_and_only_then_to_deletes() {
    for gone in [None, Some(Fault::Status(410))] {
        let mut shop = Shop::open().await;
        let lists = shop.lists();
        // Nobody watches while it happens: the version that is known is too old by then.
        shop.double().fail(Kind::Service, Verb::Watch, Fault::Status(503), 2);
        if let Some(fault) = gone {
            // The status of the answer, rather than an event in it.
            shop.double().fail(Kind::Service, Verb::Watch, fault, 1);
        }
        shop.disturb(Disturbance::End).await;
        shop.server.delete(Kind::Service, "cart").await;
        shop.apply("new", "10.96.1.1").await;
        shop.double().compact();
        shop.until_equal().await;
        assert_eq!(shop.view.deletes, ["shop/cart"]);
        assert_eq!(shop.lists(), lists + 1);
        assert!(shop.view.health.relists.get() >= 1);
    }
}

#[tokio::test]
async fn an_error_event_with_code_410_leads_to_a_new_list() {
    let mut shop = Shop::open().await;
    let lists = shop.lists();
    shop.disturb(Disturbance::Error(410)).await;
    shop.apply("cart", "10.96.1.1").await;
    shop.until_equal().await;
    shop.view.settle(QUIET).await;
    assert_eq!(shop.lists(), lists + 1);
    assert_eq!(shop.view.deletes, [""; 0]);
}

#[tokio::test]
async fn nothing_is_deleted_while_the_list_fails_however_it_does() {
    let faults = [
        Fault::Status(500),
        Fault::Status(401),
        Fault::Status(403),
        Fault::Status(404),
        Fault::RetryAfter(0),
        Fault::NoAnswer,
        Fault::NoConnection,
        Fault::HalfAnswer,
        Fault::Slow(IDLE / 2),
        Fault::Slow(IDLE * 2),
    ];
    let each = faults.map(|fault| async move {
        let mut shop = Shop::open().await;
        shop.double().fail(Kind::Service, Verb::List, fault, 2);
        shop.double().fail(Kind::Service, Verb::Watch, Fault::Status(410), 1);
        shop.disturb(Disturbance::End).await;
        shop.server.delete(Kind::Service, "cart").await;
        shop.view.settle(IDLE / 3).await;
        assert_eq!(shop.view.deletes, [""; 0], "{fault:?}: deleted before a list was complete");
        shop.until_equal().await;
        assert_eq!(shop.view.deletes, ["shop/cart"], "{fault:?}");
    });
    futures::future::join_all(each).await;
}

#[tokio::test]
async fn a_list_that_breaks_off_between_pages_deletes_nothing_and_is_begun_anew() {
    let double = ApiServerDouble::start().await;
    for number in 0..1100 {
        double.apply(service("shop", &format!("s{number:04}"), "10.96.0.1"));
    }
    let server = Server::Double(double);
    let Server::Double(double) = &server else { unreachable!() };
    let (mut view, _) = follow(server.connection(IDLE), None);
    view.until_synced().await;

    disturb(double, Disturbance::Bookmark).await;
    double.fail(Kind::Service, Verb::Watch, Fault::Status(410), 1);
    double.fail(Kind::Service, Verb::List, Fault::Slow(Duration::ZERO), 1);
    double.fail(Kind::Service, Verb::List, Fault::Status(500), 1);
    double.delete(Kind::Service, "shop/s0000");
    view.until("the delete arrives", |view| view.services.len() == 1099).await;
    assert_eq!(double.disturb(Kind::Service, Disturbance::End), 1);
    until_equal(&mut view, &server).await;
    view.until("it has listed anew", |view| view.health.relists.get() >= 1).await;
    view.settle(QUIET).await;
    assert_eq!(view.deletes, ["shop/s0000"]);
    assert_eq!(view.services.len(), 1099);
}

#[tokio::test]
async fn a_place_in_a_list_that_has_expired_leads_to_a_list_without_pages() {
    let double = ApiServerDouble::start().await;
    for number in 0..600 {
        double.apply(service("shop", &format!("s{number:04}"), "10.96.0.1"));
    }
    // The first page comes, the second is asked for too late.
    double.fail(Kind::Service, Verb::List, Fault::Slow(Duration::ZERO), 1);
    double.fail(Kind::Service, Verb::List, Fault::Status(410), 1);
    let server = Server::Double(double);
    let (mut view, _) = follow(server.connection(IDLE), None);
    view.until_synced().await;
    until_equal(&mut view, &server).await;
    let Server::Double(double) = &server else { unreachable!() };
    let limits: Vec<_> =
        double.asked(Kind::Service, Verb::List).iter().map(|it| it.parameter("limit").to_owned()).collect();
    assert_eq!(limits, ["500", "500", ""]);
}

#[tokio::test]
async fn an_object_that_can_no_longer_be_read_stays_as_it_was_and_is_named() {
    let mut shop = Shop::open().await;
    let mut wrong = service("shop", "cart", "10.96.0.1");
    wrong["spec"]["ports"][0]["port"] = json!("eighty");
    let mut senseless = service("shop", "pay", "10.96.0.2");
    senseless["spec"]["ports"] = json!([]);
    shop.server.apply(wrong).await;
    shop.server.apply(senseless).await;
    shop.view
        .until("both are named", |view| {
            view.was_rejected("Service shop/cart", "eighty") && view.was_rejected("Service shop/pay", "spec.ports")
        })
        .await;
    // A new list does not take them away either.
    shop.disturb(Disturbance::Error(410)).await;
    shop.apply("new", "10.96.0.3").await;
    shop.view.until("the others go on", |view| view.services.contains_key("shop/new")).await;
    shop.view.until("it has listed anew", |view| view.rejected.len() >= 4).await;
    shop.view.settle(QUIET).await;
    assert_eq!(shop.view.service_names(), ["shop/cart", "shop/new", "shop/pay"]);
    assert_eq!(shop.view.deletes, [""; 0]);
    // Once it really goes, it is gone.
    shop.server.delete(Kind::Service, "cart").await;
    shop.view.until("it goes", |view| view.deletes == ["shop/cart"]).await;
}

#[tokio::test]
async fn a_source_that_starts_while_the_server_is_down_is_not_in_sync_until_every_kind_has_been_listed() {
    let double = ApiServerDouble::start().await;
    double.apply(service("shop", "cart", "10.96.0.1"));
    double.fail(Kind::EndpointSlice, Verb::List, Fault::Status(503), usize::MAX);
    let server = Server::Double(double);
    let Server::Double(double) = &server else { unreachable!() };
    let (mut view, _) = follow(server.connection(IDLE), None);
    view.settle(QUIET).await;
    assert_eq!((view.services.len(), view.synced), (1, 0));
    double.heal();
    view.until_synced().await;
}

#[tokio::test]
async fn an_older_server_without_service_cidrs_serves_the_other_kinds() {
    let double = ApiServerDouble::start().await;
    double.forget(Kind::ServiceCidr);
    double.apply(service("shop", "cart", "10.96.0.1"));
    let server = Server::Double(double);
    let (mut view, _) = follow(server.connection(IDLE), None);
    view.until_synced().await;
    assert_eq!(view.service_names(), ["shop/cart"]);
    view.settle(QUIET).await;
    let Server::Double(double) = &server else { unreachable!() };
    assert_eq!(double.asked(Kind::ServiceCidr, Verb::List).len(), 1, "it is not asked over and over");
    assert_eq!(view.health.errors.get(), 0);
}

#[tokio::test]
async fn a_server_that_asks_for_time_gets_it() {
    let mut shop = Shop::open().await;
    shop.double().fail(Kind::Service, Verb::Watch, Fault::RetryAfter(1), 1);
    let before = shop.double().asked(Kind::Service, Verb::Watch).len();
    shop.disturb(Disturbance::End).await;
    let start = Instant::now();
    shop.apply("cart", "10.96.1.1").await;
    shop.until_equal().await;
    assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
    assert_eq!(shop.double().asked(Kind::Service, Verb::Watch).len(), before + 2);
}

#[tokio::test]
async fn a_server_that_ends_each_watch_at_once_is_not_asked_in_a_hot_loop() {
    let mut shop = Shop::open().await;
    shop.double().fail(Kind::Service, Verb::Watch, Fault::EndAtOnce, usize::MAX);
    shop.disturb(Disturbance::End).await;
    let before = shop.double().asked(Kind::Service, Verb::Watch).len();
    shop.view.settle(Duration::from_secs(1)).await;
    let asked = shop.double().asked(Kind::Service, Verb::Watch).len() - before;
    assert!((2..=6).contains(&asked), "{asked} times in a second");
    shop.double().heal();
    shop.apply("cart", "10.96.1.1").await;
    shop.until_equal().await;
}

#[tokio::test]
async fn a_server_that_is_restarted_is_found_again() {
    let mut shop = Shop::open().await;
    for verb in [Verb::List, Verb::Watch] {
        shop.double().fail(Kind::Service, verb, Fault::NoConnection, 3);
    }
    shop.disturb(Disturbance::CutMidLine).await;
    shop.apply("cart", "10.96.1.1").await;
    shop.until_equal().await;
    assert!(shop.view.health.errors.get() >= 3);
}

#[tokio::test]
async fn a_source_whose_future_is_dropped_lets_go_of_the_server() {
    let double = ApiServerDouble::start().await;
    let server = Server::Double(double);
    let Server::Double(double) = &server else { unreachable!() };
    let (mut view, running) = follow(server.connection(IDLE), None);
    view.until_synced().await;
    disturb(double, Disturbance::Bookmark).await;
    running.abort();
    let start = Instant::now();
    while double.disturb(Kind::Service, Disturbance::Bookmark) > 0 {
        assert!(start.elapsed() < Duration::from_secs(5), "a watch is still open");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
