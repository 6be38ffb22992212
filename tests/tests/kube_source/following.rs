//! What is there and what changes; the same on the double and on a real API server.

use std::time::{Duration, Instant};

use millrace_agent::watch::kube::{self, Connection};
use millrace_tests::apiserver::{ApiServerDouble, Disturbance, Kind, Server, Verb};
use serde_json::json;

use crate::{
    objects::{cidr, labelled, node, service, slice},
    shop::{IDLE, QUIET, Shop, disturb, follow, in_view, until_equal},
};

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
async fn a_source_whose_future_is_dropped_lets_go_of_the_server() {
    let double = ApiServerDouble::start().await;
    let server = Server::Double(double);
    let Server::Double(double) = &server else { unreachable!() };
    let (mut view, running) = follow(server.connection(IDLE), None);
    view.until_synced().await;
    disturb(double, Kind::Service, Disturbance::Bookmark).await;
    running.abort();
    let start = Instant::now();
    while double.disturb(Kind::Service, Disturbance::Bookmark) > 0 {
        assert!(start.elapsed() < Duration::from_secs(5), "a watch is still open");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
