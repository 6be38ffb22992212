//! Directories that come and go.

use std::fs;

use crate::source::{QUIET, Source, service};

#[tokio::test]
async fn a_sub_directory_that_comes_later_goes_and_returns_is_watched_each_time() {
    let mut source = Source::start(|_| {}).await;
    for round in 1..4 {
        fs::create_dir_all(source.path("team/shop")).unwrap();
        source.write("team/shop/cart.yaml", &service("cart", &format!("10.96.0.{round}")));
        source.until_cluster_ip("shop/cart", &format!("10.96.0.{round}")).await;
        source.write("team/shop/pay.yaml", &service("pay", "10.96.0.9"));
        source.until_services(&["shop/cart", "shop/pay"]).await;
        if round == 2 {
            fs::rename(source.path("team"), source.above.path().join("elsewhere")).unwrap();
        } else {
            fs::remove_dir_all(source.path("team")).unwrap();
        }
        source.until_services(&[]).await;
    }
}

#[tokio::test]
async fn a_directory_that_vanishes_as_a_whole_leaves_its_objects_in_force_until_it_is_back() {
    let mut source = Source::start(|root| {
        fs::write(root.join("cart.yaml"), service("cart", "10.96.0.1")).unwrap();
        fs::write(root.join("pay.yaml"), service("pay", "10.96.0.2")).unwrap();
    })
    .await;
    let away = source.above.path().join("away");
    fs::rename(source.path(""), &away).unwrap();
    source.view.until("the loss is reported", |view| view.was_rejected("manifests", "stay in force")).await;
    fs::remove_file(away.join("pay.yaml")).unwrap();
    fs::write(away.join("cart.yaml"), service("cart", "10.96.0.3")).unwrap();
    source.view.settle(QUIET).await;
    assert_eq!(source.view.service_names(), ["shop/cart", "shop/pay"]);
    assert_eq!(source.view.cluster_ip("shop/cart").as_deref(), Some("10.96.0.1"));

    fs::rename(&away, source.path("")).unwrap();
    source.until_services(&["shop/cart"]).await;
    source.until_cluster_ip("shop/cart", "10.96.0.3").await;
    source.write("pay.yaml", &service("pay", "10.96.0.4"));
    source.until_services(&["shop/cart", "shop/pay"]).await;
}

#[tokio::test]
async fn a_directory_deleted_file_by_file_takes_its_objects_along_and_may_be_made_anew() {
    let mut source =
        Source::start(|root| fs::write(root.join("cart.yaml"), service("cart", "10.96.0.1")).unwrap()).await;
    fs::remove_dir_all(source.path("")).unwrap();
    source.until_services(&[]).await;
    fs::create_dir(source.path("")).unwrap();
    source.write("pay.yaml", &service("pay", "10.96.0.2"));
    source.until_services(&["shop/pay"]).await;
}
