//! Directories that come and go.

use std::{fs, os::unix::fs::symlink};

use millrace_tests::view::View;

use crate::source::{QUIET, Source, service, spawn};

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

#[tokio::test]
async fn a_link_to_a_directory_is_not_followed_whenever_it_is_made() {
    let mut source =
        Source::start(|root| fs::write(root.join("cart.yaml"), service("cart", "10.96.0.1")).unwrap()).await;
    // Into itself, and to a directory beside.
    let beside = source.above.path().join("beside");
    fs::create_dir(&beside).unwrap();
    fs::write(beside.join("stray.yaml"), service("stray", "10.96.0.2")).unwrap();
    symlink(".", source.path("loop")).unwrap();
    symlink(&beside, source.path("linked")).unwrap();
    source.view.settle(QUIET).await;
    assert_eq!(source.view.service_names(), ["shop/cart"]);
    assert!(!source.view.was_rejected("shop/cart", ""), "no object is seen twice through a link");
    // The end of a link must not end the watch of what it led to.
    fs::remove_file(source.path("loop")).unwrap();
    source.view.settle(QUIET).await;
    source.write("pay.yaml", &service("pay", "10.96.0.3"));
    source.until_services(&["shop/cart", "shop/pay"]).await;
}

/// `current` leads to release 1 or 2; the manifests are in `current/manifests`.
#[tokio::test]
async fn a_release_that_is_swapped_by_a_link_above_the_directory_takes_effect_and_is_watched() {
    let above = tempfile::tempdir().unwrap();
    let release = |number: u8| above.path().join(number.to_string()).join("manifests");
    let deploy = |number: u8| {
        fs::create_dir_all(release(number)).unwrap();
        fs::write(release(number).join("cart.yaml"), service("cart", &format!("10.96.0.{number}"))).unwrap();
        let next = above.path().join("next");
        symlink(number.to_string(), &next).unwrap();
        fs::rename(&next, above.path().join("current")).unwrap();
    };
    deploy(1);
    let (mut view, output) = View::new();
    spawn(above.path().join("current/manifests"), output);
    view.until_synced().await;
    for number in 2..5 {
        deploy(number);
        view.until("the release is in force", |view| view.cluster_ip("shop/cart") == Some(format!("10.96.0.{number}")))
            .await;
        // The former release's end is no news.
        fs::remove_dir_all(above.path().join((number - 1).to_string())).unwrap();
        view.settle(QUIET).await;
        fs::write(release(number).join("pay.yaml"), service("pay", &format!("10.96.1.{number}"))).unwrap();
        view.until("a later file of the release is in force", |view| {
            view.cluster_ip("shop/pay") == Some(format!("10.96.1.{number}"))
        })
        .await;
    }
}
