//! Connections and datagrams through the first, a middle and the last service, against the direct path, one operation
//! of each at a time. Client and server share one processor.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use millrace_agent::lb::Family;
use millrace_tests::interrupt;

use super::{Options, Ratio, node::Node};
use crate::{
    cluster::{PORT, TARGET_PORT, cluster_ip},
    probe::client::{Operation, Samples, Target},
    stats::{percentile, spread},
};

const DIRECT: &str = "direct";

pub(super) fn ratios(node: &mut Node, options: &Options) -> Result<Vec<Ratio>> {
    let mut ratios = Vec::new();
    for (operation, name) in [(Operation::Connect, "connect"), (Operation::Datagram, "UDP request/response")] {
        for &family in node.families.each() {
            let targets = targets(node, family);
            let runs = (0..options.runs)
                .map(|_| {
                    interrupt::check()?;
                    node.measure(operation, &targets, options.rounds)
                })
                .collect::<Result<Vec<_>>>()
                .with_context(|| format!("{name}, {}", ip(family)))?;
            for target in targets.iter().filter(|target| target.label != DIRECT) {
                let what = format!("{name} {}, {}", ip(family), target.label);
                ratios.push(ratio(what, &target.label, &runs)?);
            }
        }
    }
    Ok(ratios)
}

/// The direct path, and the service that is the first, the middle and the last of all.
fn targets(node: &Node, family: Family) -> Vec<Target> {
    let direct = node.endpoints(family).into_iter().map(|address| SocketAddr::new(address, TARGET_PORT)).collect();
    let mut targets = vec![Target { label: DIRECT.to_owned(), addresses: direct }];
    for (label, i) in node.measured() {
        let address = cluster_ip(i, family);
        targets.push(Target { label: label.to_owned(), addresses: vec![SocketAddr::new(address, PORT)] });
    }
    targets
}

const fn ip(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

fn ratio(what: String, label: &str, runs: &[Samples]) -> Result<Ratio> {
    let of = |samples: &Samples, label: &str, percent: f64| -> Result<f64> {
        let series = samples.0.get(label).with_context(|| format!("no samples of {label}"))?;
        Ok(percentile(series, percent) as f64)
    };
    let over = |percent: f64| -> Result<Vec<f64>> {
        runs.iter().map(|run| Ok(of(run, label, percent)? / of(run, DIRECT, percent)?)).collect()
    };
    let direct = runs.iter().map(|run| Ok(of(run, DIRECT, 50.0)? / 1000.0)).collect::<Result<Vec<_>>>()?;
    Ok(Ratio {
        what,
        p50: spread(&over(50.0)?),
        p99: spread(&over(99.0)?),
        direct_p50_microseconds: spread(&direct).median,
    })
}
