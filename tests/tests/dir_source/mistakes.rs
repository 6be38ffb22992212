//! Files and objects that make no sense: each is named, and what was good stays.

use std::fs;

use crate::source::{Source, service};

#[tokio::test]
async fn a_document_that_makes_no_sense_is_named_with_its_line_and_hides_no_other_of_its_file() {
    let mut source =
        Source::start(|root| fs::write(root.join("shop.yaml"), service("cart", "10.96.0.1")).unwrap()).await;
    // The sequence of line 14 is never closed.
    source.write("shop.yaml", &(service("cart", "10.96.0.2") + "---\nkind: [Service\nmetadata:\n"));
    source.view.until("the file is rejected", |view| !view.rejected.is_empty()).await;
    assert!(source.view.was_rejected("manifests/shop.yaml", "line 15"), "{:?}", source.view.rejected);
    assert!(source.view.rejected.iter().all(|found| found.reason.lines().count() == 1), "{:?}", source.view.rejected);
    source.until_cluster_ip("shop/cart", "10.96.0.2").await;

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
    source.view.until("nothing is in doubt", |view| view.settled.len() == 1).await;
    assert!(source.view.settled[0].ends_with("manifests/shop.yaml"), "{:?}", source.view.settled);
}

#[tokio::test]
async fn at_the_start_the_good_documents_of_a_file_count_and_what_is_in_doubt_is_said_first() {
    let twice = service("pay", "10.96.0.2").replace("metadata:\n", "metadata:\n  name: pay\n");
    let source = Source::start(|root| {
        let documents = [service("cart", "10.96.0.1"), twice, service("ads", "10.96.0.3")];
        fs::write(root.join("shop.yaml"), documents.join("---\n")).unwrap();
    })
    .await;
    assert_eq!(source.view.service_names(), ["shop/ads", "shop/cart"]);
    assert!(source.view.was_rejected("shop.yaml", "duplicate mapping key: name"), "{:?}", source.view.rejected);
    assert!(!source.view.was_rejected("shop.yaml", "Options"), "{:?}", source.view.rejected);
    assert!(source.view.rejected.iter().all(|found| found.doubt.is_some()));
}

/// An agent that starts again keeps what it cannot read: until it is told that this is over.
#[tokio::test]
async fn an_object_in_doubt_is_settled_when_it_is_corrected_or_taken_out_and_with_its_file() {
    let wrong = |name| service(name, "10.96.0.3").replace("port: 80", "port: eighty");
    let mut source = Source::start(|root| {
        fs::write(root.join("a.yaml"), wrong("cart") + &wrong("pay")).unwrap();
        fs::write(root.join("b.yaml"), wrong("ads")).unwrap();
    })
    .await;
    assert_eq!(source.view.settled, [""; 0]);
    source.write("a.yaml", &(service("cart", "10.96.0.1") + &wrong("pay")));
    source.view.until("the cart is settled", |view| view.settled == ["Service shop/cart"]).await;
    source.write("a.yaml", &service("cart", "10.96.0.1"));
    source.view.until("pay is settled", |view| view.settled[1..] == ["Service shop/pay"]).await;
    fs::remove_file(source.path("b.yaml")).unwrap();
    source.view.until("ads are settled", |view| view.settled[2..] == ["Service shop/ads"]).await;
    assert_eq!(source.view.service_names(), ["shop/cart"]);
    assert_eq!(source.view.deletes, [""; 0]);
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

#[tokio::test]
async fn what_is_said_of_an_object_is_on_one_line_whatever_its_keys_are() {
    let key = r#"  annotations: {"a\nWARN all is well": 1}"#;
    let cart = service("cart", "10.96.0.1").replace("  name: cart", &format!("  name: cart\n{key}"));
    let source = Source::start(|root| fs::write(root.join("shop.yaml"), cart).unwrap()).await;
    assert!(source.view.was_rejected("Service shop/cart", "a WARN all is well: "), "{:?}", source.view.rejected);
}

/// What was held on account of it would be taken away in between.
#[tokio::test]
async fn what_can_be_read_again_is_said_before_it_is_settled() {
    let mut source =
        Source::start(|root| std::os::unix::fs::symlink("shop.yaml", root.join("shop.yaml")).unwrap()).await;
    assert!(source.view.was_rejected("shop.yaml", "cannot be read"), "{:?}", source.view.rejected);
    fs::remove_file(source.path("shop.yaml")).unwrap();
    source.write("shop.yaml", &service("cart", "10.96.0.1"));
    source.view.until("it is settled", |view| !view.settled.is_empty()).await;
    assert_eq!(source.view.service_names(), ["shop/cart"]);
}
