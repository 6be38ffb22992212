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
    /// In the pattern of sizes.
    place: usize,
    slice: SliceId,
    /// Pods that are still old.
    left: usize,
    next: Step,
}

pub(super) struct Stream {
    cluster: Cluster,
    pattern: Vec<SliceId>,
    rollouts: Vec<Rollout>,
    random: Rng,
    /// Another than for all else, which is to go the same way in clusters of any size.
    repetitions: Rng,
}

impl Stream {
    pub(super) fn new(cluster: Cluster, seed: u64) -> Self {
        let (random, repetitions) = (Rng::with_seed(seed), Rng::with_seed(!seed));
        Self { pattern: cluster.pattern(), cluster, rollouts: Vec::new(), random, repetitions }
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The next step of one of the deployments that roll.
    pub(super) fn rolling(&mut self) -> Event {
        while self.rollouts.len() < ROLLING.min(self.pattern.len()) {
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
        let mut touched = self.cluster.slices();
        self.random.shuffle(&mut touched);
        touched.retain(|slice| {
            let pods = self.cluster.slice_mut(*slice).into_iter().flatten().filter(|pod| pod.zone() == zone);
            pods.map(|pod| pod.state = state).count() > 0
        });
        touched.into_iter().map(|slice| self.event(slice)).collect()
    }

    /// Never two in one place of the pattern, so not two on one slice: each would count the other's pods. Which sizes roll is
    /// the same in clusters of any size, and which services of these sizes is not: an event's cost can be compared.
    fn begin(&mut self) {
        let place = self.random.usize(..self.pattern.len());
        if self.rollouts.iter().all(|rollout| rollout.place != place) {
            let repetition = self.repetitions.u32(..self.cluster.repetitions());
            let slice = Cluster::repeated(self.pattern[place], repetition);
            let left = self.cluster.slice_mut(slice).map_or(1, |pods| pods.len().max(1));
            self.rollouts.push(Rollout { place, slice, left, next: Step::Add });
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
        stream_of(100, seed)
    }

    fn stream_of(services: u32, seed: u64) -> Stream {
        let size = Size { nodes: 30, services, shape: Shape::Mixed };
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

    /// Else a curve over sizes of clusters would show how large the services were that happened to change.
    #[test]
    fn services_of_the_same_sizes_change_in_clusters_of_any_size() {
        let (mut small, mut large) = (stream_of(100, 3), stream_of(1000, 3));
        let mut others = 0;
        for _ in 0..3000 {
            let events = [small.rolling(), large.rolling()].map(|event| serde_json::from_slice(&event).unwrap());
            let [one, other]: [serde_json::Value; 2] = events;
            let pods = |slice: &serde_json::Value| slice["endpoints"].as_array().unwrap().len();
            assert_eq!(pods(&one), pods(&other), "{} and {}", one["metadata"], other["metadata"]);
            others += usize::from(one["metadata"]["name"] != other["metadata"]["name"]);
        }
        assert!(others > 2000, "only {others} are of services that the small cluster has not");
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
