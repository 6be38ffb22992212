//! Lists that are slow, fail, break off or expire. No real API server can be told to fail: on the double only.

use std::time::Duration;

use millrace_tests::apiserver::{ApiServerDouble, Disturbance, Fault, Kind, Server, Verb};

use crate::{
    objects::service,
    shop::{IDLE, QUIET, Shop, disturb, follow, until_equal},
};

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

    disturb(double, Kind::Service, Disturbance::Bookmark).await;
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
