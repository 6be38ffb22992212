//! What is read from a directory, and with how much effort.

use std::{fs, net::IpAddr, time::Instant};

use millrace_agent::watch::{Settings, dir};
use millrace_tests::view::View;

use crate::source::{Source, service, slice, spawn};

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

/// As `kubectl get nodes -o yaml` lists them: this one tells its zone and addresses, the others nothing.
#[tokio::test]
async fn of_all_nodes_this_one_is_read() {
    let source = Source::start(|root| {
        let node = |name: &str, zone: &str, ip: &str| {
            format!(
                "---\napiVersion: v1\nkind: Node\nmetadata:\n  name: {name}\n  labels: {{topology.kubernetes.io/zone: {zone}}}\n\
                 spec: {{}}\nstatus:\n  addresses: [{{type: InternalIP, address: {ip}}}]\n"
            )
        };
        let all = [("n0", "a", "10.0.0.5"), ("n1", "b", "10.0.0.6"), ("n9", "c", "10.0.0.7")];
        let all: String = all.into_iter().map(|(name, zone, ip)| node(name, zone, ip)).collect();
        fs::write(root.join("nodes.yaml"), all).unwrap();
    })
    .await;
    let node = source.view.node.unwrap();
    assert_eq!(node.zone.as_deref(), Some("b"));
    assert_eq!(*node.addresses, ["10.0.0.6".parse::<IpAddr>().unwrap()]);
    assert_eq!((source.view.rejected.len(), source.view.health.other_kinds.get()), (0, 0));
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
async fn a_directory_that_is_not_there_is_refused_by_name_with_what_to_do() {
    let above = tempfile::tempdir().unwrap();
    let file = above.path().join("file");
    fs::write(&file, "").unwrap();
    for root in [above.path().join("missing"), file] {
        let error = dir::run(&root, &Settings::default(), &View::new().1).await.unwrap_err().to_string();
        assert!(error.contains(root.to_str().unwrap()) && error.contains("create it"), "{error}");
    }
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
