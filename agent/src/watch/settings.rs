//! For whom a source reads: what of a kind is served depends on it.

#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Whose pods are read, and whose object tells the zone.
    pub node_name: String,
    /// This proxy's `service.kubernetes.io/service-proxy-name`, if it is not the cluster's default one.
    pub proxy_name: Option<String>,
}

impl Settings {
    pub(super) fn proxy_name(&self) -> Option<&str> {
        self.proxy_name.as_deref()
    }
}
