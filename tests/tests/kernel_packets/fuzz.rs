//! A fuzz target for each program that reads packets. Frames of every kind that the program knows, changed at random,
//! for some seconds: nothing stops it, nothing is misdelivered, nothing that it does not translate is touched, and the
//! flows of others go on meanwhile.
//!
//! `MILLRACE_FUZZ_SECONDS` runs each target for longer than the three seconds of an ordinary test run, and
//! `MILLRACE_FUZZ_SEED` with other frames.

mod corpus;
mod oracle;
mod scene;

use std::{
    env, panic,
    time::{Duration, Instant},
};

use self::{
    corpus::{Behaviour, Corpus},
    scene::{Scene, Way},
};
use crate::xdp::acquainted;

/// After so many frames the maps are emptied: they are full of made-up flows by then.
const PER_ROUND: usize = 2000;
/// The flows of others are looked after so often.
const PER_CHECK: usize = 100;
/// However slow the machine is.
const AT_LEAST: usize = 1000;

fn setting(name: &str, usual: u64) -> u64 {
    env::var(name).map_or(usual, |value| value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

fn fuzz(way: Way) {
    let deadline = Instant::now() + Duration::from_secs(setting("MILLRACE_FUZZ_SECONDS", 3));
    let seed = setting("MILLRACE_FUZZ_SEED", 1);
    let node = acquainted();
    let run = || {
        let mut corpus = Corpus::new(seed);
        let mut sent = 0;
        while sent < AT_LEAST || Instant::now() < deadline {
            let scene = Scene::new(&node, way);
            for at in 1..=PER_ROUND {
                meet(&scene, &mut corpus, seed);
                if at % PER_CHECK == 0 {
                    scene.assert_others_go_on();
                    if sent >= AT_LEAST && Instant::now() > deadline {
                        break;
                    }
                }
                sent += 1;
            }
        }
        println!("{way:?}: {sent} frames, {} behaviours", corpus.behaviours());
        assert!(corpus.behaviours() >= way.least(), "the frames meet too little of {way:?}: {}", corpus.behaviours());
    };
    node.network.node("n1").unwrap().netns.run(run).unwrap();
}

fn meet(scene: &Scene<'_>, corpus: &mut Corpus, seed: u64) {
    let frame = corpus.next(&scene.seeds);
    if scene.is_of_others(&frame) {
        return;
    }
    let before = scene.rig.counts();
    let verdict = panic::catch_unwind(panic::AssertUnwindSafe(|| {
        let out = scene.meets(scene.way, &frame);
        scene.parties.judge(&frame, &out);
        out
    }));
    let Ok(out) = verdict else {
        panic!("MILLRACE_FUZZ_SEED={seed}, {:?}, this frame (above: what is wrong): {frame:02x?}", scene.way);
    };
    let counted = scene.rig.counts().into_iter().filter(|(name, n)| before.get(name) != Some(n));
    let counted = counted.map(|(name, _)| name).collect();
    corpus.learn(Behaviour { action: format!("{:?}", out.action), changed: out.frame != frame, counted }, frame);
}

#[test]
fn whatever_a_pod_sends() {
    fuzz(Way::FromPod);
}

#[test]
fn whatever_a_pod_is_sent() {
    fuzz(Way::ToPod);
}

#[test]
fn whatever_comes_by_the_uplink() {
    fuzz(Way::FromUplink);
}

#[test]
fn whatever_the_node_sends() {
    fuzz(Way::ToUplink);
}

#[test]
fn whatever_xdp_meets() {
    fuzz(Way::Xdp);
}
