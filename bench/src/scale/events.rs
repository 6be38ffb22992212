//! What happens in a cluster: deployments that replace pods one after the other, and a zone that fails and comes back.
//! Each event is one EndpointSlice as the API server would send it. Pure: the same seed gives the same stream.

use fastrand::Rng;

use super::cluster::{Cluster, SliceId, State};

/// Deployments that roll at a time.
const ROLLING: usize = 50;

/// An EndpointSlice as JSON.
pub(super) type Event = Vec<u8>;

/// A pod of a slice is replaced in three steps, each seen by every node.
#[derive(Clone, Copy)]
enum Step {
    /// There is a new pod.
    Add,
    /// It is ready, and the oldest begins to end.
    Shift,
    /// The oldest is gone.
    Remove,
}

struct Rollout {
    slice: SliceId,
    /// Pods that are still old.
    left: usize,
    next: Step,
}

pub(super) struct Stream {
    cluster: Cluster,
    slices: Vec<SliceId>,
    rollouts: Vec<Rollout>,
    random: Rng,
}

impl Stream {
    pub(super) fn new(cluster: Cluster, seed: u64) -> Self {
        let slices = cluster.slices();
        Self { cluster, slices, rollouts: Vec::new(), random: Rng::with_seed(seed) }
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The next step of one of the deployments that roll.
    pub(super) fn rolling(&mut self) -> Event {
        while self.rollouts.len() < ROLLING.min(self.slices.len()) {
            self.begin();
        }
        let at = self.random.usize(..self.rollouts.len());
        let rollout = &mut self.rollouts[at];
        let slice = rollout.slice;
        let (step, next) = match rollout.next {
            Step::Add => (Step::Add, Step::Shift),
            Step::Shift => (Step::Shift, Step::Remove),
            Step::Remove => (Step::Remove, Step::Add),
        };
        rollout.next = next;
        if let Step::Remove = step {
            rollout.left -= 1;
        }
        if rollout.left == 0 {
            self.rollouts.swap_remove(at);
        }
        self.act(slice, step);
        self.event(slice)
    }

    /// Every slice with a pod in the zone, in no order: these pods are `state` now.
    pub(super) fn zone_becomes(&mut self, zone: usize, state: State) -> Vec<Event> {
        let mut touched = self.slices.clone();
        self.random.shuffle(&mut touched);
        touched.retain(|slice| {
            let pods = self.cluster.slice_mut(*slice).into_iter().flatten().filter(|pod| pod.zone() == zone);
            pods.map(|pod| pod.state = state).count() > 0
        });
        touched.into_iter().map(|slice| self.event(slice)).collect()
    }

    /// Never two on one slice: each would count the other's pods.
    fn begin(&mut self) {
        let slice = self.slices[self.random.usize(..self.slices.len())];
        if self.rollouts.iter().all(|rollout| rollout.slice != slice) {
            let left = self.cluster.slice_mut(slice).map_or(1, |pods| pods.len().max(1));
            self.rollouts.push(Rollout { slice, left, next: Step::Add });
        }
    }

    fn act(&mut self, slice: SliceId, step: Step) {
        match step {
            Step::Add => self.cluster.add_pod(slice),
            Step::Shift => {
                if let Some([oldest, .., newest]) = self.cluster.slice_mut(slice).map(Vec::as_mut_slice) {
                    (oldest.state, newest.state) = (State::Terminating, State::Ready);
                }
            }
            Step::Remove => {
                if let Some(pods) = self.cluster.slice_mut(slice).filter(|pods| pods.len() > 1) {
                    pods.remove(0);
                }
            }
        }
    }

    fn event(&self, slice: SliceId) -> Event {
        self.cluster.slice(slice).to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::cluster::{Shape, Size};

    fn stream(seed: u64) -> Stream {
        let size = Size { nodes: 30, services: 100, shape: Shape::Mixed };
        Stream::new(Cluster::new(size, seed), seed)
    }

    /// Deployments replace pods; there are never fewer than before, and at most one more for each that rolls.
    #[test]
    fn a_cluster_keeps_its_size_while_deployments_roll() {
        let mut stream = stream(7);
        let before = stream.cluster().pods();
        for _ in 0..5000 {
            stream.rolling();
            let now = stream.cluster().pods();
            assert!((before..=before + ROLLING).contains(&now), "{before} pods became {now}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_stream() {
        let (mut one, mut other) = (stream(3), stream(3));
        assert!((0..200).all(|_| one.rolling() == other.rolling()));
        assert_eq!(one.zone_becomes(2, State::Lost), other.zone_becomes(2, State::Lost));
    }

    #[test]
    fn a_zone_that_fails_takes_its_pods_out_of_every_slice_and_no_others() {
        let mut stream = stream(5);
        for event in stream.zone_becomes(1, State::Lost) {
            let slice: serde_json::Value = serde_json::from_slice(&event).unwrap();
            for endpoint in slice["endpoints"].as_array().unwrap() {
                assert_eq!(endpoint["conditions"]["ready"], endpoint["zone"] != "b", "{endpoint}");
            }
        }
    }
}
