//! FRONTENDS: who has which frontend, and the marks of the addresses that services own.

use std::net::IpAddr;

use millrace_common::frontend::FrontendKind;

use super::{Address, Mirror};
use crate::lb::{Family, Frontend};

impl Mirror {
    pub(in crate::diff) fn insert_frontend(&mut self, frontend: Frontend, kind: FrontendKind, index: u32) {
        self.frontends.insert(frontend, (kind, index));
        *self.entries.of_mut(frontend.family()) += 1;
        if kind.owns_address() {
            self.addresses.entry(frontend.address).or_default().frontends += 1;
            self.unowned.remove(&frontend.address);
        }
        if let Some(record) = self.record_mut(index) {
            record.frontends.reserve_exact(1);
            record.frontends.push(frontend);
        }
    }

    pub(super) fn delete_frontend(&mut self, frontend: &Frontend) {
        let Some((kind, index)) = self.frontends.remove(frontend) else { return };
        self.stale.remove(frontend);
        *self.entries.of_mut(frontend.family()) -= 1;
        *self.deleted.of_mut(frontend.family()) = Some(self.ticket);
        if let Some(record) = self.record_mut(index) {
            record.frontends.retain(|other| other != frontend);
        }
        let Some(address) = self.addresses.get_mut(&frontend.address).filter(|_| kind.owns_address()) else { return };
        address.frontends -= 1;
        match *address {
            Address { frontends: 0, marked: true } => drop(self.unowned.insert(frontend.address)),
            Address { frontends: 0, marked: false } => drop(self.addresses.remove(&frontend.address)),
            _ => {}
        }
    }

    pub(in crate::diff) fn mark(&mut self, ip: IpAddr) {
        let address = self.addresses.entry(ip).or_default();
        address.marked = true;
        if address.frontends == 0 {
            self.unowned.insert(ip);
        }
        *self.entries.of_mut(Family::of(ip)) += 1;
    }

    pub(super) fn unmark(&mut self, ip: IpAddr) {
        self.unowned.remove(&ip);
        *self.entries.of_mut(Family::of(ip)) -= 1;
        *self.deleted.of_mut(Family::of(ip)) = Some(self.ticket);
        let Some(address) = self.addresses.get_mut(&ip) else { return };
        address.marked = false;
        if address.frontends == 0 {
            self.addresses.remove(&ip);
        }
    }
}
