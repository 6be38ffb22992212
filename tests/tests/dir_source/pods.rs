//! Pods and namespaces as manifests: those of this node are read, and nobody needs to write any.

use std::fs;

use millrace_agent::model::SocketLb;
use millrace_tests::manifests::{namespace, pod};

use crate::source::{QUIET, Source, service};

const UID: &str = "8dc9a1b8-0f3d-4c37-9a4c-6f3f2a0e9f11";

#[tokio::test]
async fn this_nodes_pods_and_namespaces_that_say_something_are_read_and_followed() {
    let objects = [
        pod("n1", "shop", "cart-1", UID, None),
        pod("n2", "shop", "cart-2", UID, Some("off")),
        namespace("shop", Some("off")),
        namespace("bank", None),
    ];
    let text = |objects: &[serde_json::Value]| -> String {
        objects.iter().map(|object| format!("---\n{}", serde_saphyr::to_string(object).unwrap())).collect()
    };
    let mut source = Source::start(|root| fs::write(root.join("pods.yaml"), text(&objects)).unwrap()).await;
    assert_eq!(source.view.pods.keys().collect::<Vec<_>>(), ["shop/cart-1"]);
    assert_eq!(source.view.namespaces["shop"].socket_lb, Some(SocketLb::Off));
    assert_eq!(source.view.namespaces.len(), 1);
    source.write("pods.yaml", &text(&[pod("n1", "shop", "cart-1", UID, Some("on")), namespace("shop", None)]));
    source.view.until("the pod says on", |view| view.pods["shop/cart-1"].socket_lb == Some(SocketLb::On)).await;
    source.view.until("the namespace says no more", |view| view.namespaces.is_empty()).await;
    fs::remove_file(source.path("pods.yaml")).unwrap();
    source.view.until("the pod goes", |view| view.pods.is_empty()).await;
    assert_eq!(source.view.rejected, []);
}

#[tokio::test]
async fn a_switch_without_quotes_is_no_string_and_named_as_kubectl_would() {
    let plain = format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: cart-1\n  namespace: shop\n  uid: {UID}\n  annotations: \
         {{millrace.io/socket-lb: off}}\nspec: {{nodeName: n1, containers: []}}\n"
    );
    let mut source = Source::start(|root| fs::write(root.join("pod.yaml"), &plain).unwrap()).await;
    let reason = "metadata.annotations.millrace.io/socket-lb: invalid type: boolean";
    assert!(source.view.was_rejected("Pod shop/cart-1", reason), "{:?}", source.view.rejected);
    source.write("pod.yaml", &plain.replace(": off", ": \"off\""));
    source.view.until("it is a string", |view| view.pods.len() == 1).await;
    assert_eq!(source.view.pods["shop/cart-1"].socket_lb, Some(SocketLb::Off));
}

#[tokio::test]
async fn a_pod_that_could_not_be_found_is_named_and_keeps_nothing_else_from_being_served() {
    let mut nameless = pod("n1", "shop", "cart-1", UID, Some("off"));
    nameless["metadata"].as_object_mut().unwrap().remove("uid");
    let text = service("cart", "10.96.0.1") + "---\n" + &serde_saphyr::to_string(&nameless).unwrap();
    let mut source = Source::start(|root| fs::write(root.join("shop.yaml"), text).unwrap()).await;
    source.view.settle(QUIET).await;
    assert!(source.view.was_rejected("Pod shop/cart-1", "metadata.uid"), "{:?}", source.view.rejected);
    assert_eq!((source.view.service_names(), source.view.pods.len()), (vec!["shop/cart"], 0));
}
