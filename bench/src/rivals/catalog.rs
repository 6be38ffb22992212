//! The services that a rival has been told of, in the order in which they were given: the order of the rules, which
//! decides what the first and the last service cost.

use super::service::{Service, ServiceKey};

#[derive(Debug, Default)]
pub(super) struct Catalog(Vec<Service>);

impl Catalog {
    pub(super) fn new(services: Vec<Service>) -> Self {
        Self(services)
    }

    pub(super) fn all(&self) -> &[Service] {
        &self.0
    }

    /// In the place of the one with the same key, which is returned, or at the end.
    pub(super) fn put(&mut self, service: Service) -> Option<Service> {
        let key = service.key();
        match self.0.iter_mut().find(|known| known.is(&key)) {
            Some(known) => Some(std::mem::replace(known, service)),
            None => {
                self.0.push(service);
                None
            }
        }
    }

    pub(super) fn take(&mut self, key: &ServiceKey) -> Option<Service> {
        let index = self.0.iter().position(|known| known.is(key))?;
        Some(self.0.remove(index))
    }
}
