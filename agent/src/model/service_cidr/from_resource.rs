//! Reads a ServiceCIDR as Kubernetes writes it.

use ipnet::IpNet;
use k8s_openapi::api::networking::v1;

use super::ServiceCidr;
use crate::model::{Malformed, Parsed, address::sift};

impl ServiceCidr {
    /// # Errors
    /// The field without which nothing of it can be used; ranges that make no sense are listed in
    /// [`Parsed::problems`].
    pub fn from_resource(resource: &v1::ServiceCIDR) -> Result<Parsed<Self>, Malformed> {
        let Some(name) = resource.metadata.name.as_deref().filter(|name| !name.is_empty()) else {
            return Err(Malformed::new("metadata.name", "is missing; every object needs one"));
        };
        let written = resource.spec.as_ref().and_then(|spec| spec.cidrs.as_deref()).unwrap_or_default();
        let mut problems = Vec::new();
        let cidrs = (written.iter().enumerate())
            .filter_map(|(at, text)| {
                let range = text.trim().parse::<IpNet>().map_err(|_| {
                    let problem = format!("`{text}` is no CIDR; write one such as 10.96.0.0/12 or fd00:10:96::/112");
                    Malformed::new(format!("spec.cidrs[{at}]"), problem)
                });
                sift(range, &mut problems).map(|range| range.trunc())
            })
            .collect();
        Ok(Parsed { value: Self { name: name.into(), cidrs }, problems })
    }
}
