//! Who holds a frontend that several Services name: the older one, whatever the order of arrival.

use std::collections::BTreeSet;

use foldhash::HashMap;

use super::Frontend;
use crate::model::ServiceKey;

/// Every frontend that is claimed, and by whom. The work of a change is proportional to the frontends that it adds or
/// gives up.
#[derive(Debug, Default)]
pub struct Claims {
    claimants: HashMap<Frontend, Claimants>,
    by_service: HashMap<ServiceKey, Claimed>,
}

/// Sorted: `(age, Service)`.
#[derive(Debug)]
enum Claimants {
    One(Claimant),
    Several(BTreeSet<Claimant>),
}

/// Of several claimants the least has the frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age(i64);

impl Age {
    /// Of a Service that stands in the maps from before and that nobody has decided on yet: what it has, it keeps.
    pub const HELD: Self = Self(i64::MIN);
    /// Of a Service that does not say: the youngest of Services.
    pub const UNKNOWN: Self = Self(i64::MAX - 1);
    /// A node port is the cluster's promise, a host port one pod's: the pod gives way.
    pub const HOST_PORT: Self = Self(i64::MAX);

    /// `created`: seconds since 1970, 0 if unknown.
    #[must_use]
    pub const fn of(created: i64) -> Self {
        if created == 0 { Self::UNKNOWN } else { Self(created) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claimant {
    created: Age,
    service: ServiceKey,
}

#[derive(Debug)]
struct Claimed {
    created: Age,
    /// Sorted.
    frontends: Box<[Frontend]>,
}

impl Claims {
    /// `service` names exactly these frontends now (none: it is gone). Returns the other Services that win or lose a
    /// frontend by it: they must be decided anew.
    pub fn claim(
        &mut self,
        service: &ServiceKey,
        created: Age,
        frontends: &BTreeSet<Frontend>,
    ) -> BTreeSet<ServiceKey> {
        let mut affected = BTreeSet::new();
        let before = self.by_service.remove(service);
        let same_age = before.as_ref().is_some_and(|before| before.created == created);
        if let Some(before) = &before {
            let claimant = Claimant { created: before.created, service: service.clone() };
            for frontend in before.frontends.iter().filter(|frontend| !same_age || !frontends.contains(frontend)) {
                self.release(frontend, &claimant, &mut affected);
            }
        }
        let claimant = Claimant { created, service: service.clone() };
        let known = before.as_ref().filter(|_| same_age).map_or(&[][..], |before| &before.frontends);
        for frontend in frontends.iter().filter(|frontend| known.binary_search(frontend).is_err()) {
            self.take(*frontend, &claimant, &mut affected);
        }
        if !frontends.is_empty() {
            let frontends = frontends.iter().copied().collect();
            self.by_service.insert(service.clone(), Claimed { created, frontends });
        }
        affected.remove(service);
        affected
    }

    /// The Service that has it.
    #[must_use]
    pub fn holder(&self, frontend: &Frontend) -> Option<&ServiceKey> {
        self.claimants.get(frontend).map(|claimants| &claimants.first().service)
    }

    fn take(&mut self, frontend: Frontend, claimant: &Claimant, affected: &mut BTreeSet<ServiceKey>) {
        let Some(claimants) = self.claimants.get_mut(&frontend) else {
            self.claimants.insert(frontend, Claimants::One(claimant.clone()));
            return;
        };
        let before = claimants.first().clone();
        match claimants {
            Claimants::One(other) => {
                *claimants = Claimants::Several([other.clone(), claimant.clone()].into());
            }
            Claimants::Several(all) => {
                all.insert(claimant.clone());
            }
        }
        if claimant < &before {
            affected.insert(before.service);
        }
    }

    fn release(&mut self, frontend: &Frontend, claimant: &Claimant, affected: &mut BTreeSet<ServiceKey>) {
        let Some(claimants) = self.claimants.get_mut(frontend) else { return };
        let Claimants::Several(all) = claimants else {
            self.claimants.remove(frontend);
            return;
        };
        let held = all.first() == Some(claimant);
        all.remove(claimant);
        let Some(heir) = all.first().cloned() else { return };
        if held {
            affected.insert(heir.service.clone());
        }
        if all.len() == 1 {
            *claimants = Claimants::One(heir);
        }
    }
}

impl Claimants {
    fn first(&self) -> &Claimant {
        match self {
            Self::One(claimant) => claimant,
            #[expect(clippy::expect_used, reason = "`Several` is made of two, and becomes `One` before it is empty")]
            Self::Several(all) => all.first().expect("several claimants"),
        }
    }
}
