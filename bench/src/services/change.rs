//! From a changed EndpointSlice at the API server to its effect in the maps.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use millrace_tests::interrupt;

use super::node::Node;
use crate::cluster::slice;

/// How often the map is looked at: two cores serve the API server, the agent and this loop.
const LOOK: Duration = Duration::from_micros(50);
const PATIENCE: Duration = Duration::from_secs(10);

/// One figure per change: the slice of a service loses an endpoint, gets it back, and so on.
pub(super) fn milliseconds(node: &Node, changes: u32) -> Result<Vec<f64>> {
    let i = node.services / 3;
    let all = node.endpoints_of(i);
    let word = node.word_of(i)?;
    let mut took = Vec::new();
    for change in 0..changes {
        interrupt::check()?;
        // One endpoint goes with the even changes and is back with the odd ones.
        let object = slice(i, if change % 2 == 0 { &all[1..] } else { &all });
        let before = word.read()?;
        let start = Instant::now();
        node.api.apply(object);
        while word.read()? == before {
            if start.elapsed() > PATIENCE {
                bail!("change {change} of service {i} had no effect within {PATIENCE:?}");
            }
            sleep(LOOK);
        }
        took.push(start.elapsed().as_secs_f64() * 1000.0);
        // Changes come one at a time here; what a burst costs is another question.
        sleep(Duration::from_millis(2));
    }
    // The service may be one that clients call next.
    node.api.apply(slice(i, &all));
    Ok(took)
}
