//! Files that change, in each way that editors and the kubelet change them.

use std::{fs, io::Write, os::unix::fs::symlink, time::Instant};

use crate::source::{QUIET, Source, service};

#[tokio::test]
async fn files_that_come_change_and_go_take_their_objects_along() {
    let mut source = Source::start(|_| {}).await;
    source.write("shop.yaml", &(service("cart", "10.96.0.1") + &service("pay", "10.96.0.2")));
    source.until_services(&["shop/cart", "shop/pay"]).await;

    source.write("shop.yaml", &service("cart", "10.96.0.3"));
    source.until_cluster_ip("shop/cart", "10.96.0.3").await;
    source.until_services(&["shop/cart"]).await;

    fs::remove_file(source.path("shop.yaml")).unwrap();
    source.until_services(&[]).await;
}

#[tokio::test]
async fn a_file_renamed_over_another_replaces_it_and_one_renamed_away_is_gone() {
    let mut source =
        Source::start(|root| fs::write(root.join("shop.yaml"), service("cart", "10.96.0.1")).unwrap()).await;
    source.write(".shop.yaml.swp", &service("cart", "10.96.0.2"));
    fs::rename(source.path(".shop.yaml.swp"), source.path("shop.yaml")).unwrap();
    source.until_cluster_ip("shop/cart", "10.96.0.2").await;
    assert_eq!(source.view.deletes, [""; 0], "an object that is replaced is never gone in between");

    fs::rename(source.path("shop.yaml"), source.path("shop.yaml.bak")).unwrap();
    source.until_services(&[]).await;
}

#[tokio::test]
async fn a_mounted_config_map_that_the_kubelet_swaps_is_read_anew() {
    let mut source = Source::start(|root| {
        fs::create_dir(root.join("..first")).unwrap();
        fs::write(root.join("..first/cart.yaml"), service("cart", "10.96.0.1")).unwrap();
        fs::write(root.join("..first/old.yaml"), service("old", "10.96.0.8")).unwrap();
        symlink("..first", root.join("..data")).unwrap();
        symlink("..data/cart.yaml", root.join("cart.yaml")).unwrap();
        symlink("..data/old.yaml", root.join("old.yaml")).unwrap();
    })
    .await;
    assert_eq!(source.view.service_names(), ["shop/cart", "shop/old"]);

    fs::create_dir(source.path("..second")).unwrap();
    fs::write(source.path("..second/cart.yaml"), service("cart", "10.96.0.2")).unwrap();
    fs::write(source.path("..second/new.yaml"), service("new", "10.96.0.9")).unwrap();
    symlink("..second", source.path("..data_tmp")).unwrap();
    fs::rename(source.path("..data_tmp"), source.path("..data")).unwrap();
    symlink("..data/new.yaml", source.path("new.yaml")).unwrap();
    fs::remove_file(source.path("old.yaml")).unwrap();
    fs::remove_dir_all(source.path("..first")).unwrap();
    source.until_services(&["shop/cart", "shop/new"]).await;
    source.until_cluster_ip("shop/cart", "10.96.0.2").await;
}

#[tokio::test]
async fn a_file_is_not_read_while_its_writer_still_writes_and_at_once_when_it_closes() {
    let mut source =
        Source::start(|root| fs::write(root.join("shop.yaml"), service("cart", "10.96.0.1")).unwrap()).await;
    let mut file = fs::File::create(source.path("shop.yaml")).unwrap();
    file.write_all(service("cart", "10.96.0.2").as_bytes()).unwrap();
    file.sync_all().unwrap();
    source.view.settle(QUIET).await;
    assert_eq!(source.view.cluster_ip("shop/cart").as_deref(), Some("10.96.0.1"));

    file.write_all(service("pay", "10.96.0.3").as_bytes()).unwrap();
    drop(file);
    let closed = Instant::now();
    source.until_services(&["shop/cart", "shop/pay"]).await;
    println!("a closed file took effect after {:?}", closed.elapsed());
    assert_eq!(source.view.deletes, [""; 0]);
}

#[tokio::test]
async fn of_two_files_that_name_one_object_the_last_in_order_is_used_and_both_are_named() {
    let mut source = Source::start(|root| {
        fs::write(root.join("a.yaml"), service("cart", "10.96.0.1")).unwrap();
        fs::write(root.join("b.yaml"), service("cart", "10.96.0.2")).unwrap();
    })
    .await;
    assert_eq!(source.view.cluster_ip("shop/cart").as_deref(), Some("10.96.0.2"));
    let both = &source.view.rejected[0];
    assert_eq!(both.object, "Service shop/cart");
    assert!(both.reason.contains("a.yaml") && both.reason.contains("b.yaml"), "{both}");

    // What is hidden may change without effect.
    source.write("a.yaml", &service("cart", "10.96.0.3"));
    source.view.settle(QUIET).await;
    assert_eq!(source.view.cluster_ip("shop/cart").as_deref(), Some("10.96.0.2"));

    fs::remove_file(source.path("b.yaml")).unwrap();
    source.until_cluster_ip("shop/cart", "10.96.0.3").await;
    assert_eq!(source.view.deletes, [""; 0]);
    fs::remove_file(source.path("a.yaml")).unwrap();
    source.until_services(&[]).await;
}

#[tokio::test]
async fn a_changed_file_costs_no_more_than_itself() {
    let mut source = Source::start(|root| {
        for number in 0..50 {
            fs::write(root.join(format!("{number}.yaml")), service(&format!("s{number}"), "10.96.0.1")).unwrap();
        }
    })
    .await;
    let before = source.view.changes_seen;
    source.write("7.yaml", &service("s7", "10.96.0.2"));
    source.until_cluster_ip("shop/s7", "10.96.0.2").await;
    source.view.settle(QUIET).await;
    assert_eq!(source.view.changes_seen - before, 1);
}
