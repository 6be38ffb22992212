//! Files and objects that make no sense: each is named, and what was good stays.

use std::fs;

use crate::source::{Source, service};

#[tokio::test]
async fn a_file_that_makes_no_sense_is_named_with_its_line_and_its_last_good_objects_stay() {
    let mut source =
        Source::start(|root| fs::write(root.join("shop.yaml"), service("cart", "10.96.0.1")).unwrap()).await;
    // The sequence of line 14 is never closed.
    source.write("shop.yaml", &(service("cart", "10.96.0.2") + "---\nkind: [Service\nmetadata:\n"));
    source.view.until("the file is rejected", |view| !view.rejected.is_empty()).await;
    assert!(source.view.was_rejected("manifests/shop.yaml", "line 15"), "{:?}", source.view.rejected);
    assert!(source.view.rejected.iter().all(|found| found.reason.lines().count() == 1), "{:?}", source.view.rejected);
    assert_eq!(source.view.cluster_ip("shop/cart").as_deref(), Some("10.96.0.1"));

    for (broken, why) in [("just some words\n", "line 1"), ("{", "line 1"), ("a: b: c", "line 1"), ("\u{0}\u{1}", "")] {
        source.view.rejected.clear();
        source.write("shop.yaml", broken);
        source.view.until(&format!("{broken:?} is rejected"), |view| view.was_rejected("shop.yaml", why)).await;
    }
    assert_eq!(source.view.service_names(), ["shop/cart"]);

    source.write("shop.yaml", &service("cart", "10.96.0.3"));
    source.until_cluster_ip("shop/cart", "10.96.0.3").await;
    assert_eq!(source.view.deletes, [""; 0]);
    assert_eq!(source.view.health.rejected.get(), 5);
}

#[tokio::test]
async fn an_object_of_the_wrong_shape_is_named_stays_as_it_was_and_spoils_no_other() {
    let mut source = Source::start(|root| {
        fs::write(root.join("shop.yaml"), service("cart", "10.96.0.1") + &service("pay", "10.96.0.2")).unwrap();
    })
    .await;
    let wrong = service("cart", "10.96.0.3").replace("port: 80", "port: eighty");
    source.write("shop.yaml", &(wrong.clone() + &service("pay", "10.96.0.4") + &service("new", "10.96.0.5")));
    source.until_services(&["shop/cart", "shop/new", "shop/pay"]).await;
    source.until_cluster_ip("shop/pay", "10.96.0.4").await;
    assert!(source.view.was_rejected("Service shop/cart", "shop.yaml"), "{:?}", source.view.rejected);
    assert!(source.view.was_rejected("Service shop/cart", "spec.ports[0].port"), "{:?}", source.view.rejected);
    assert_eq!(source.view.cluster_ip("shop/cart").as_deref(), Some("10.96.0.1"), "the last good one is in force");

    source.write("shop.yaml", &wrong.replace("name: cart", "name: other"));
    source.until_services(&[]).await;
    assert!(source.view.was_rejected("Service shop/other", "eighty"), "{:?}", source.view.rejected);
}

#[tokio::test]
async fn an_object_that_cannot_even_be_named_deletes_nothing() {
    let mut source = Source::start(|root| {
        fs::write(root.join("shop.yaml"), service("cart", "10.96.0.1") + &service("pay", "10.96.0.2")).unwrap();
    })
    .await;
    let nameless = service("cart", "10.96.0.3").replace("  name: cart\n", "");
    source.write("shop.yaml", &(nameless + &service("pay", "10.96.0.4")));
    source.until_cluster_ip("shop/pay", "10.96.0.4").await;
    assert!(source.view.was_rejected("shop.yaml", "metadata.name"), "{:?}", source.view.rejected);
    assert_eq!(source.view.cluster_ip("shop/cart").as_deref(), Some("10.96.0.1"));

    source.write("shop.yaml", &service("pay", "10.96.0.4"));
    source.until_services(&["shop/pay"]).await;
}
