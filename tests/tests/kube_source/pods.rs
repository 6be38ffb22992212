//! Pods of this node and namespaces that say something of theirs: asked for by selectors, so that a node is not told of a
//! whole cluster's.

use millrace_agent::model::SocketLb;
use millrace_tests::{
    apiserver::{ApiServerDouble, Disturbance, Fault, Kind, Server, Verb},
    manifests::{namespace, pod},
};

use crate::{
    objects::service,
    shop::{IDLE, QUIET, disturb, follow},
};

const UID: &str = "8dc9a1b8-0f3d-4c37-9a4c-6f3f2a0e9f11";

#[tokio::test]
async fn only_this_nodes_pods_and_namespaces_with_the_switch_are_asked_for_and_followed() {
    let double = ApiServerDouble::start().await;
    double.apply(pod("n1", "shop", "cart-1", UID, Some("off")));
    double.apply(pod("n2", "shop", "cart-2", UID, Some("off")));
    double.apply(namespace("shop", Some("off")));
    double.apply(namespace("bank", None));
    let server = Server::Double(double);
    let (mut view, _) = follow(server.connection(IDLE), None);
    view.until_synced().await;
    assert_eq!(view.pods.keys().collect::<Vec<_>>(), ["shop/cart-1"]);
    assert_eq!(view.namespaces.keys().collect::<Vec<_>>(), ["shop"]);
    let Server::Double(double) = &server else { unreachable!() };
    let selector = |kind, parameter| double.asked(kind, Verb::List)[0].parameter(parameter).to_owned();
    assert_eq!(selector(Kind::Pod, "fieldSelector"), "spec.nodeName=n1");
    assert_eq!(selector(Kind::Namespace, "labelSelector"), "millrace.io/socket-lb");

    double.apply(pod("n1", "shop", "cart-1", UID, Some("on")));
    view.until("the pod says on", |view| view.pods["shop/cart-1"].socket_lb == Some(SocketLb::On)).await;
    double.apply(namespace("bank", Some("off")));
    view.until("a namespace begins to say something", |view| view.namespaces.contains_key("bank")).await;
    double.apply(namespace("shop", None));
    view.until("another one says no more", |view| !view.namespaces.contains_key("shop")).await;
    double.delete(Kind::Pod, "shop/cart-1");
    view.until("the pod goes", |view| view.pods.is_empty()).await;
}

#[tokio::test]
async fn a_value_that_makes_no_sense_is_named_and_the_pod_is_there_all_the_same() {
    let double = ApiServerDouble::start().await;
    double.apply(pod("n1", "shop", "cart-1", UID, Some("false")));
    double.apply(namespace("shop", Some("disabled")));
    let server = Server::Double(double);
    let (mut view, _) = follow(server.connection(IDLE), None);
    view.until_synced().await;
    assert_eq!((view.pods["shop/cart-1"].socket_lb, view.namespaces["shop"].socket_lb), (None, None));
    assert!(view.was_rejected("Pod shop/cart-1", "`false`") && view.was_rejected("Namespace shop", "`disabled`"));
    assert!(view.rejected.iter().all(|rejection| rejection.reason.contains("write on or off")));
}

#[tokio::test]
async fn an_account_that_may_not_list_pods_or_namespaces_is_served_the_services_and_told_so() {
    for kind in [Kind::Pod, Kind::Namespace] {
        let double = shop().await;
        double.fail(kind, Verb::List, Fault::Status(403), usize::MAX);
        let server = Server::Double(double);
        let Server::Double(double) = &server else { unreachable!() };
        let (mut view, _) = follow(server.connection(IDLE), None);
        view.until("all but pods is there", |view| view.synced == 1).await;
        view.settle(QUIET).await;
        assert_eq!((view.services.len(), view.pods_synced), (1, 0), "{kind:?}");
        assert_eq!(view.pods.len() + view.namespaces.len(), 1, "{kind:?}: the other kind is read");
        assert!(view.health.errors.get() > 0, "{kind:?}");
        double.heal();
        view.until_synced().await;
        assert_eq!((view.pods.len(), view.namespaces.len(), view.deletes.len()), (1, 1, 0), "{kind:?}");
    }
}

#[tokio::test]
async fn what_is_known_of_pods_stays_in_force_when_it_may_no_longer_be_asked_for() {
    for kind in [Kind::Pod, Kind::Namespace] {
        let server = Server::Double(shop().await);
        let Server::Double(double) = &server else { unreachable!() };
        let (mut view, _) = follow(server.connection(IDLE), None);
        view.until_synced().await;
        disturb(double, kind, Disturbance::Bookmark).await;
        double.fail(kind, Verb::Watch, Fault::Status(410), 1);
        double.fail(kind, Verb::List, Fault::Status(403), usize::MAX);
        disturb(double, kind, Disturbance::End).await;
        double.delete(Kind::Pod, "shop/cart-1");
        double.delete(Kind::Namespace, "shop");
        view.until("the other kind goes", |view| view.deletes.len() == 1).await;
        while double.asked(kind, Verb::List).len() < 3 {
            view.settle(QUIET).await;
        }
        assert_eq!(view.deletes.len(), 1, "{kind:?}: {:?}", view.deletes);
        double.heal();
        view.until("both are gone", |view| view.pods.is_empty() && view.namespaces.is_empty()).await;
    }
}

/// One Service, one pod of this node, one namespace with the switch.
async fn shop() -> ApiServerDouble {
    let double = ApiServerDouble::start().await;
    double.apply(service("shop", "cart", "10.96.0.1"));
    double.apply(pod("n1", "shop", "cart-1", UID, Some("off")));
    double.apply(namespace("shop", Some("off")));
    double
}
