//! A directory of manifests as the source: what an operator who edits files may rely on.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where, at once")]

use std::{
    fs,
    io::Write,
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, Instant},
};

use millrace_agent::watch::{Output, dir};
use millrace_tests::view::View;
use tempfile::TempDir;

/// Long enough for an event that should not come to come.
const QUIET: Duration = Duration::from_millis(150);

struct Source {
    view: View,
    /// Holds `manifests`.
    above: TempDir,
}

impl Source {
    /// Starts on a directory that `fill` has prepared.
    async fn start(fill: impl FnOnce(&Path)) -> Self {
        let above = tempfile::tempdir().unwrap();
        let root = above.path().join("manifests");
        fs::create_dir(&root).unwrap();
        fill(&root);
        let (mut view, output) = View::new();
        spawn(root, output);
        view.until_synced().await;
        Self { view, above }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.above.path().join("manifests").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    async fn until_services(&mut self, names: &[&str]) {
        self.view.until(&format!("the services are {names:?}"), |view| view.service_names() == names).await;
    }

    async fn until_cluster_ip(&mut self, service: &str, address: &str) {
        self.view
            .until(&format!("{service} has {address}"), |view| view.cluster_ip(service).as_deref() == Some(address))
            .await;
    }
}

fn spawn(root: std::path::PathBuf, output: Output) {
    tokio::spawn(async move { dir::run(&root, None, &output).await.unwrap() });
}

fn service(name: &str, address: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: shop\nspec:\n  clusterIP: {address}\n  \
         clusterIPs: [{address}]\n  ports:\n  - port: 80\n    protocol: TCP\n"
    )
}

fn slice(name: &str, service: &str, endpoints: &[&str]) -> String {
    let endpoints: String = endpoints
        .iter()
        .map(|address| format!("- addresses: [{address}]\n  conditions: {{ready: true}}\n  nodeName: n1\n"))
        .collect();
    format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}\n  namespace: shop\n  labels:\n    \
         kubernetes.io/service-name: {service}\naddressType: IPv4\nports:\n- {{name: '', port: 8080, protocol: TCP}}\n\
         endpoints:\n{endpoints}"
    )
}

#[tokio::test]
async fn everything_in_the_directory_and_below_is_said_before_the_source_is_in_sync() {
    let source = Source::start(|root| {
        let cidr = "---\napiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: kubernetes}\nspec: {cidrs: [10.96.0.0/16]}\n";
        fs::write(root.join("shop.yaml"), service("cart", "10.96.0.1") + &slice("cart-1", "cart", &["10.0.0.1"]) + cidr).unwrap();
        fs::create_dir_all(root.join("more/deep")).unwrap();
        fs::write(root.join("more/deep/pay.yml"), service("pay", "10.96.0.2")).unwrap();
        fs::write(root.join("notes.txt"), "not a manifest").unwrap();
        fs::write(root.join(".hidden.yaml"), service("hidden", "10.96.0.9")).unwrap();
    })
    .await;
    assert_eq!(source.view.service_names(), ["shop/cart", "shop/pay"]);
    assert_eq!(source.view.slices["shop/cart-1"].endpoints.len(), 1);
    assert_eq!(source.view.cidrs.len(), 1);
    assert_eq!(source.view.rejected, []);
}

#[tokio::test]
async fn a_list_as_kubectl_writes_it_is_taken_apart_in_yaml_and_in_json() {
    let source = Source::start(|root| {
        let object = |name: &str| {
            format!(
                r#"{{"apiVersion": "v1", "kind": "Service", "metadata": {{"name": "{name}", "namespace": "shop"}},
                    "spec": {{"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ports": [{{"port": 80, "protocol": "TCP"}}]}}}}"#
            )
        };
        let list = |first: &str, second: &str| {
            format!(r#"{{"apiVersion": "v1", "items": [{}, {}], "kind": "List"}}"#, object(first), object(second))
        };
        fs::write(root.join("a.yaml"), list("a", "b")).unwrap();
        fs::write(root.join("b.json"), list("c", "d")).unwrap();
    })
    .await;
    assert_eq!(source.view.service_names(), ["shop/a", "shop/b", "shop/c", "shop/d"]);
}

#[tokio::test]
async fn an_object_without_a_namespace_is_in_the_default_one() {
    let source = Source::start(|root| {
        fs::write(root.join("a.yaml"), service("cart", "10.96.0.1").replace("  namespace: shop\n", "")).unwrap();
    })
    .await;
    assert_eq!(source.view.service_names(), ["default/cart"]);
}

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
async fn another_version_of_a_kind_is_refused_by_name_and_other_kinds_are_only_counted() {
    let source = Source::start(|root| {
        let old = slice("cart-1", "cart", &["10.0.0.1"]).replace("k8s.io/v1\n", "k8s.io/v1beta1\n");
        let others = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\napiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: b}\n";
        fs::write(root.join("shop.yaml"), old + others).unwrap();
    })
    .await;
    assert!(
        source.view.was_rejected("EndpointSlice shop/cart-1", "write discovery.k8s.io/v1"),
        "{:?}",
        source.view.rejected
    );
    assert_eq!(source.view.rejected.len(), 1);
    assert_eq!(source.view.health.other_kinds.get(), 2);
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
async fn a_directory_that_is_not_there_is_refused_by_name_with_what_to_do() {
    let above = tempfile::tempdir().unwrap();
    let file = above.path().join("file");
    fs::write(&file, "").unwrap();
    for root in [above.path().join("missing"), file] {
        let error = dir::run(&root, None, &View::new().1).await.unwrap_err().to_string();
        assert!(error.contains(root.to_str().unwrap()) && error.contains("create it"), "{error}");
    }
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

/// `MILLRACE_SERVICES=10000 cargo test --release` prints the figure for a cluster of that size.
#[tokio::test(flavor = "multi_thread")]
async fn a_whole_cluster_in_one_directory_is_read_with_little_memory() {
    let services: usize = std::env::var("MILLRACE_SERVICES").map_or(200, |number| number.parse().unwrap());
    let above = tempfile::tempdir().unwrap();
    let endpoints: Vec<String> = (0..10).map(|number| format!("10.0.0.{number}")).collect();
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let mut bytes = 0;
    // A hundred services to a file.
    for first in (0..services).step_by(100) {
        let text: String = (first..(first + 100).min(services))
            .map(|number| {
                service(&format!("s{number}"), "10.96.0.1")
                    + &slice(&format!("s{number}-a"), &format!("s{number}"), &endpoints)
            })
            .collect();
        bytes += text.len();
        fs::write(above.path().join(format!("{first}.yaml")), text).unwrap();
    }
    let before = resident_bytes();
    let (mut view, output) = View::new();
    let start = Instant::now();
    spawn(above.path().to_owned(), output);
    view.until_synced().await;
    let (elapsed, grown) = (start.elapsed(), resident_bytes().saturating_sub(before));
    println!("{services} services x 10 endpoints, {bytes} bytes of YAML: {elapsed:?}, {grown} bytes more resident");
    assert_eq!((view.services.len(), view.slices.len()), (services, services));
    assert!(grown < (32 << 20) + bytes * 3, "{grown} bytes for {bytes} bytes of YAML");
}

fn resident_bytes() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
