//! A Namespace, with only what it says of its pods' connections.

use k8s_openapi::api::core::v1 as core;

use super::{Malformed, Parsed, SocketLb};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    pub name: Box<str>,
    /// The label: of the pods that say nothing themselves.
    pub socket_lb: Option<SocketLb>,
}

impl Namespace {
    /// `None`: it has no such label.
    ///
    /// # Errors
    /// A Namespace without a name.
    pub fn from_resource(resource: &core::Namespace) -> Result<Option<Parsed<Self>>, Malformed> {
        let metadata = &resource.metadata;
        let labels = metadata.labels.as_ref();
        if !labels.is_some_and(|labels| labels.contains_key(SocketLb::KEY)) {
            return Ok(None);
        }
        let Some(name) = metadata.name.as_deref().filter(|name| !name.is_empty()) else {
            return Err(Malformed::new("metadata.name", "is missing; every object needs one"));
        };
        let mut problems = Vec::new();
        let socket_lb = SocketLb::said("metadata.labels", labels, &mut problems);
        Ok(Some(Parsed { value: Self { name: name.into(), socket_lb }, problems }))
    }
}
