//! A ServiceCIDR (networking.k8s.io/v1): ranges that ClusterIPs are taken from.

mod from_resource;

use ipnet::IpNet;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceCidr {
    pub name: Box<str>,
    pub cidrs: Box<[IpNet]>,
}
