//! Names of the chains that a service has of its own (pkg/proxy/nftables/proxier.go: `servicePortChainNameBase`,
//! `servicePortEndpointChainNameBase`, `hashAndTruncate`).

use std::net::SocketAddr;

use crate::rivals::{
    hash::short,
    service::{Service, ServicePort},
};

const HASH_LENGTH: usize = 8;
/// nft's limit of 256 less the longest prefix; what is longer is cut and ends in three dots.
const LONGEST: usize = 240;

/// Picks an endpoint.
pub(super) fn service_chain(service: &Service, port: &ServicePort) -> String {
    format!("service-{}", hashed(&base(service, port)))
}

/// Masquerades what came from outside, then picks an endpoint.
pub(super) fn external_chain(service: &Service, port: &ServicePort) -> String {
    format!("external-{}", hashed(&base(service, port)))
}

/// Sends to one endpoint.
pub(super) fn endpoint_chain(service: &Service, port: &ServicePort, endpoint: SocketAddr) -> String {
    // A colon is not allowed in a name.
    let address = endpoint.ip().to_string().replace(':', ".");
    format!("endpoint-{}", hashed(&format!("{}__{address}/{}", base(service, port), endpoint.port())))
}

fn base(service: &Service, port: &ServicePort) -> String {
    format!("{}/{}/{}/{}", service.namespace, service.name, port.protocol.name(), port.name)
}

fn hashed(name: &str) -> String {
    let mut hashed = format!("{}-{name}", short(name, HASH_LENGTH));
    // Kubernetes names and addresses are ASCII.
    if hashed.len() > LONGEST {
        hashed.truncate(LONGEST - 3);
        hashed.push_str("...");
    }
    hashed
}

#[cfg(test)]
mod tests {
    use super::{endpoint_chain, service_chain};
    use crate::rivals::service::{Protocol, Service, ServicePort};

    #[test]
    fn names_are_those_that_kube_proxy_gives() {
        let port =
            ServicePort { name: "p80".into(), protocol: Protocol::Tcp, port: 80, node_port: 0, endpoints: Vec::new() };
        let service = Service {
            namespace: "ns1".into(),
            name: "svc1".into(),
            cluster_ip: "172.30.0.41".parse().unwrap(),
            ports: vec![port.clone()],
        };
        // As in the expectations of kube-proxy's own tests (TestOverallNFTablesRules).
        assert_eq!(service_chain(&service, &port), "service-ULMVA6XW-ns1/svc1/tcp/p80");
        let endpoint = endpoint_chain(&service, &port, "10.180.0.1:80".parse().unwrap());
        assert_eq!(endpoint, "endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80");
        let v6 = endpoint_chain(&service, &port, "[fd00::1]:80".parse().unwrap());
        assert!(v6.ends_with("__fd00..1/80"), "{v6}");
    }
}
