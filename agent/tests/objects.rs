//! What becomes of an object as Kubernetes writes it: which are a service proxy's business, what their fields mean, and
//! what is said about those that make no sense.
#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use millrace_agent::model::{Algorithm, EndpointSlice, Malformed, Parsed, Policy, Protocol, Service, ServiceCidr};
use serde_json::{Value, json};

fn service(change: impl FnOnce(&mut Value)) -> Result<Option<Parsed<Service>>, Malformed> {
    service_for(None, change)
}

fn service_for(proxy: Option<&str>, change: impl FnOnce(&mut Value)) -> Result<Option<Parsed<Service>>, Malformed> {
    let mut object = json!({
        "metadata": {"namespace": "shop", "name": "cart", "creationTimestamp": "2026-01-01T00:00:10Z"},
        "spec": {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ports": [{"name": "http", "port": 80}]},
    });
    change(&mut object);
    Service::from_resource(&serde_json::from_value(object).unwrap(), proxy)
}

fn slice(change: impl FnOnce(&mut Value)) -> Result<Option<Parsed<EndpointSlice>>, Malformed> {
    let mut object = json!({
        "metadata": {"namespace": "shop", "name": "cart-x", "labels": {"kubernetes.io/service-name": "cart"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": ["10.0.0.1", "10.0.0.2"]}],
    });
    change(&mut object);
    EndpointSlice::from_resource(&serde_json::from_value(object).unwrap(), None)
}

/// All is well with it.
fn whole<T>(parsed: Result<Option<Parsed<T>>, Malformed>) -> T {
    let Parsed { value, problems } = parsed.unwrap().unwrap();
    assert_eq!(problems, []);
    value
}

/// It is served without the parts that are complained about.
fn partly<T>(parsed: Result<Option<Parsed<T>>, Malformed>) -> (T, Vec<String>) {
    let Parsed { value, problems } = parsed.unwrap().unwrap();
    (value, problems.iter().map(ToString::to_string).collect())
}

#[test]
fn fields_that_are_not_written_have_the_defaults_of_kubernetes() {
    let service = whole(service(|_| {}));
    assert_eq!(service.key.to_string(), "shop/cart");
    assert_eq!(service.created, 1_767_225_610);
    assert_eq!(service.ports[0].protocol, Protocol::Tcp);
    assert_eq!((service.internal_policy, service.external_policy), (Policy::Cluster, Policy::Cluster));
    assert_eq!(service.affinity_seconds, None);
    let endpoint = whole(slice(|_| {})).endpoints[0].clone();
    assert_eq!((endpoint.ready, endpoint.serving, endpoint.terminating), (true, true, false));
}

#[test]
fn objects_of_others_are_nobodys_business() {
    const PROXY: &str = "service.kubernetes.io/service-proxy-name";
    let skipped = [
        service(|s| s["spec"]["clusterIP"] = json!("None")),
        service(|s| s["spec"]["clusterIP"] = json!("")),
        service(|s| s["spec"] = json!({"ports": [{"port": 80}]})),
        service(|s| s["spec"]["type"] = json!("ExternalName")),
        service(|s| s["metadata"]["labels"] = json!({PROXY: "other"})),
        service(|s| s["metadata"]["labels"] = json!({"service.kubernetes.io/headless": ""})),
        service_for(Some("mine"), |s| s["metadata"]["labels"] = json!({PROXY: "other"})),
    ];
    for parsed in skipped {
        assert_eq!(parsed, Ok(None));
    }
    whole(service_for(Some("mine"), |s| s["metadata"]["labels"] = json!({PROXY: "mine"})));
    whole(service_for(Some("mine"), |_| {}));
    let skipped = [
        slice(|s| s["addressType"] = json!("FQDN")),
        slice(|s| s["metadata"]["labels"] = json!({})),
        slice(|s| s["metadata"]["labels"]["service.kubernetes.io/headless"] = json!("")),
        slice(|s| s["metadata"]["labels"][PROXY] = json!("other")),
    ];
    for parsed in skipped {
        assert_eq!(parsed, Ok(None));
    }
}

#[test]
fn an_object_that_cannot_be_served_at_all_names_the_field_and_the_remedy() {
    let cases = [
        (service(|s| s["spec"]["ports"] = json!([])), "spec.ports: is empty; a Service needs at least one port"),
        (
            service(|s| s["spec"]["clusterIPs"] = json!(["10.96.0.300"])),
            "spec.clusterIPs[0]: `10.96.0.300` is no IP address; write one such as 10.0.0.1 or fd00::1",
        ),
        (
            service(|s| s["spec"]["ports"][0]["port"] = json!(70_000)),
            "spec.ports[0].port: 70000 is no port; write a number from 1 to 65535",
        ),
        (
            service(|s| s["spec"]["ports"][0]["protocol"] = json!("tcp")),
            "spec.ports[0].protocol: `tcp` is no protocol; write TCP, UDP or SCTP",
        ),
        (
            service(|s| s["metadata"]["name"] = json!("Cart/1")),
            "metadata.name: `Cart/1` has other characters than a-z, 0-9, '-' and '.'; rename it",
        ),
        (service(|s| s["metadata"]["name"] = Value::Null), "metadata.name: is missing; every object needs one"),
        (service(|s| s["spec"] = Value::Null), "spec: is missing; a Service needs clusterIP and ports"),
    ];
    for (parsed, message) in cases {
        assert_eq!(parsed.unwrap_err().to_string(), message);
    }
    let message = slice(|s| s["addressType"] = json!("ipv4")).unwrap_err().to_string();
    assert_eq!(message, "addressType: `ipv4` is no address type; write IPv4, IPv6 or FQDN");
}

/// How endpoints are chosen is asked for by an annotation; one that nobody understands is named, and changes nothing.
#[test]
fn an_annotation_asks_for_an_algorithm() {
    let asked = |algorithm: Value| {
        service(|s| s["metadata"]["annotations"] = json!({"millrace.io/algorithm": algorithm, "other": "maglev"}))
    };
    assert_eq!(whole(service(|_| {})).algorithm, Algorithm::Random);
    assert_eq!(whole(asked(json!("random"))).algorithm, Algorithm::Random);
    assert_eq!(whole(asked(json!("maglev"))).algorithm, Algorithm::Maglev);
    let (service, problems) = partly(asked(json!("Maglev")));
    assert_eq!(service.algorithm, Algorithm::Random);
    assert_eq!(
        problems,
        [
            "metadata.annotations[millrace.io/algorithm]: `Maglev` is no algorithm, random is used; write random or maglev"
        ]
    );
}

#[test]
fn a_bad_part_of_a_service_is_left_out_and_the_rest_works() {
    let (service, problems) = partly(service(|s| {
        s["spec"]["externalIPs"] = json!(["198.51.100.7", "127.0.0.1", "nonsense"]);
        s["spec"]["ports"] = json!([
            {"name": "http", "port": 80, "nodePort": 30080}, {"name": "again", "port": 80},
            {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30080}, {"name": "admin", "port": 81, "nodePort": 30080},
        ]);
        s["spec"]["sessionAffinity"] = json!("ClientIP");
        s["spec"]["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": 0}});
        s["spec"]["internalTrafficPolicy"] = json!("local");
    }));
    assert_eq!(service.external_ips.len(), 1);
    assert_eq!(service.ports.iter().map(|port| &*port.name).collect::<Vec<_>>(), ["http", "dns"]);
    assert_eq!(service.affinity_seconds, Some(10_800));
    assert_eq!(
        problems,
        [
            "spec.ports[1]: TCP port `again` is also port `http` of this Service; give each its own name, number and node port",
            "spec.ports[3]: TCP port `admin` is also port `http` of this Service; give each its own name, number and node port",
            "spec.externalIPs[1]: `127.0.0.1` is a loopback address: no service may use it; write a routable address",
            "spec.externalIPs[2]: `nonsense` is no IP address; write one such as 10.0.0.1 or fd00::1",
            "spec.internalTrafficPolicy: `local` is no policy, Cluster is used; write Cluster or Local",
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: 0 is out of range, 10800 is used; write 1 to 86400",
        ]
    );
}

#[test]
fn only_vips_that_are_the_proxys_to_serve_are_kept() {
    let service = whole(service(|s| {
        s["status"] = json!({"loadBalancer": {"ingress": [
            {"ip": "198.51.100.1"},
            {"ip": "198.51.100.2", "ipMode": "VIP"},
            {"ip": "198.51.100.3", "ipMode": "Proxy"},
            {"hostname": "lb.example.com"},
        ]}});
    }));
    let vips: Vec<String> = service.load_balancer_vips.iter().map(ToString::to_string).collect();
    assert_eq!(vips, ["198.51.100.1", "198.51.100.2"]);
}

#[test]
fn source_ranges_are_trimmed_and_none_that_can_be_read_closes_the_vip() {
    let vip = |s: &mut Value, ranges: Value| {
        s["status"] = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}]}});
        s["spec"]["loadBalancerSourceRanges"] = ranges;
    };
    let open = whole(service(|s| vip(s, json!([" 10.0.0.1/8 ", "fd00::/8\n"]))));
    let ranges: Vec<String> = open.source_ranges.iter().map(ToString::to_string).collect();
    assert_eq!(ranges, ["10.0.0.0/8", "fd00::/8"]);
    let (closed, problems) = partly(service(|s| vip(s, json!(["10.0.0.0/33"]))));
    assert_eq!(closed.load_balancer_vips.len(), 0, "to serve it anyway would open it to all");
    assert_eq!(problems.len(), 1);
}

#[test]
fn an_endpoint_that_is_no_address_does_not_stop_its_slice() {
    let (slice, problems) = partly(slice(|s| {
        s["endpoints"] = json!([
            {"addresses": ["10.0.0.1"]},
            {"addresses": ["not-an-address"]},
            {"addresses": []},
            {"addresses": ["fd00::1"]},
            {"addresses": ["169.254.169.254"]},
            {"addresses": ["10.0.0.2"]},
        ]);
        s["ports"] = json!([{"name": "http", "port": 8080}, {"name": "any"}, {"name": "zero", "port": 0}]);
    }));
    let addresses: Vec<String> = slice.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect();
    assert_eq!(addresses, ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(slice.ports.len(), 1, "a port without a number is ignored");
    assert_eq!(
        problems,
        [
            "ports[2].port: 0 is no port; write a number from 1 to 65535",
            "endpoints[1].addresses[0]: `not-an-address` is no IP address; write one such as 10.0.0.1 or fd00::1",
            "endpoints[2].addresses[0]: is missing; an endpoint needs an address",
            "endpoints[3].addresses[0]: `fd00::1` is not of the slice's addressType IPv4; put it in a slice of its own family",
            "endpoints[4].addresses[0]: `169.254.169.254` is a link-local address: no service may use it; write a routable address",
        ]
    );
}

#[test]
fn only_an_endpoints_first_address_counts() {
    assert_eq!(whole(slice(|_| {})).endpoints.len(), 1);
}

#[test]
fn a_slice_says_when_its_change_was_asked_for() {
    let key = "endpoints.kubernetes.io/last-change-trigger-time";
    let slice = |time: &str| whole(slice(|s| s["metadata"]["annotations"] = json!({key: time})));
    assert_eq!(slice("2026-01-01T00:00:10.5Z").triggered, Some(1_767_225_610_500));
    assert_eq!(slice("yesterday").triggered, None);
}

#[test]
fn a_range_that_is_none_does_not_hide_the_others() {
    let object = json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/12", "10.96.0.0"]}});
    let parsed = ServiceCidr::from_resource(&serde_json::from_value(object).unwrap()).unwrap();
    assert_eq!(parsed.value.cidrs.len(), 1);
    assert_eq!(
        parsed.problems[0].to_string(),
        "spec.cidrs[1]: `10.96.0.0` is no CIDR; write one such as 10.96.0.0/12 or fd00:10:96::/112"
    );
}
