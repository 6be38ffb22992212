//! Names of the chains that a service has of its own (pkg/proxy/iptables/proxier.go: `servicePortPolicyClusterChain`,
//! `serviceExternalChainName`, `servicePortEndpointChainName`).

use std::net::SocketAddr;

use crate::rivals::{hash::short, service::Protocol};

/// Hash characters in a name: with the prefix it stays under iptables' 28.
const LENGTH: usize = 16;

/// Prefixes of the chains that come and go with services (`isServiceChainName`).
const PREFIXES: [&str; 5] = ["KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-FW-", "KUBE-EXT-"];

/// Picks an endpoint.
pub(super) fn cluster_chain(port_name: &str, protocol: Protocol) -> String {
    format!("KUBE-SVC-{}", short(&format!("{port_name}{}", protocol.name()), LENGTH))
}

/// Masquerades what came from outside, then picks an endpoint.
pub(super) fn external_chain(port_name: &str, protocol: Protocol) -> String {
    format!("KUBE-EXT-{}", short(&format!("{port_name}{}", protocol.name()), LENGTH))
}

/// Sends to one endpoint.
pub(super) fn endpoint_chain(port_name: &str, protocol: Protocol, endpoint: SocketAddr) -> String {
    format!("KUBE-SEP-{}", short(&format!("{port_name}{}{endpoint}", protocol.name()), LENGTH))
}

pub(super) fn is_service_chain(chain: &str) -> bool {
    PREFIXES.iter().any(|prefix| chain.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::{Protocol, cluster_chain, endpoint_chain, external_chain};

    #[test]
    fn names_are_those_that_kube_proxy_gives() {
        // As in the expectations of kube-proxy's own tests (TestOverallIPTablesRules).
        assert_eq!(cluster_chain("ns1/svc1:p80", Protocol::Tcp), "KUBE-SVC-XPGD46QRK7WJZT7O");
        assert_eq!(external_chain("ns3/svc3:p80", Protocol::Tcp), "KUBE-EXT-X27LE4BHSL4DOUIK");
        let endpoint = "10.180.0.1:80".parse().unwrap();
        assert_eq!(endpoint_chain("ns1/svc1:p80", Protocol::Tcp, endpoint), "KUBE-SEP-SXIVWICOYRO3J4NJ");
    }
}
