//! Watches that end, break, fall silent or fall behind. No real API server can be told to fail: on the double only.

use std::time::{Duration, Instant};

use millrace_tests::apiserver::{Disturbance, Fault, Kind, Verb};

use crate::{
    objects::{cidr, slice},
    shop::{IDLE, QUIET, Shop},
};

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
