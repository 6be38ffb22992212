//! Which connections went to an endpoint that had been replaced? Pure.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use crate::{probe::client::load::Connection, report::Churn};

/// Nanoseconds that a proxy may take to notice: no cluster delivers an event much faster.
pub(super) const GRACE: u64 = 100_000_000;

pub(super) struct Replacement {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub(super) at: u64,
    pub(super) gone: IpAddr,
    pub(super) new: IpAddr,
}

/// `first` are the endpoints before the first replacement; both lists are in the order of time.
pub(super) fn judge(first: BTreeSet<IpAddr>, replacements: &[Replacement], connections: &[Connection]) -> Churn {
    let (mut serving, mut gone_since) = (first, HashMap::new());
    let mut replacements = replacements.iter().peekable();
    let mut churn = Churn { connections: connections.len() as u64, ..Churn::default() };
    for connection in connections {
        while let Some(replacement) = replacements.next_if(|r| r.at <= connection.began_nanoseconds) {
            serving.remove(&replacement.gone);
            serving.insert(replacement.new);
            gone_since.insert(replacement.gone, replacement.at);
        }
        match &connection.outcome {
            Err(_) => churn.failed += 1,
            Ok(endpoint) if serving.contains(endpoint) => {}
            // One that is not there yet began to serve while the connection was made.
            Ok(endpoint) => {
                let late = gone_since.get(endpoint).map_or(0, |at| connection.began_nanoseconds - at);
                churn.stale += u64::from(late > GRACE);
                churn.latest_milliseconds = churn.latest_milliseconds.max(late as f64 / 1e6);
            }
        }
    }
    churn
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::{GRACE, Replacement, judge};
    use crate::probe::client::load::Connection;

    fn endpoint(k: u8) -> IpAddr {
        Ipv4Addr::new(192, 168, 3, k).into()
    }

    fn connection(began_nanoseconds: u64, outcome: Result<IpAddr, &str>) -> Connection {
        Connection { began_nanoseconds, outcome: outcome.map_err(str::to_owned) }
    }

    #[test]
    fn a_connection_is_late_by_as_much_as_its_endpoint_had_been_gone_when_it_began() {
        let replacements = [
            Replacement { at: 1000, gone: endpoint(1), new: endpoint(2) },
            Replacement { at: 2000 + GRACE, gone: endpoint(2), new: endpoint(1) },
        ];
        let connections = [
            connection(500, Ok(endpoint(1))),
            connection(1500, Ok(endpoint(2))),
            // Gone, but not for long.
            connection(1000 + GRACE, Ok(endpoint(1))),
            connection(1001 + GRACE, Ok(endpoint(1))),
            connection(1500 + GRACE, Err("refused")),
            // Back again.
            connection(2500 + GRACE, Ok(endpoint(1))),
        ];
        let churn = judge([endpoint(1)].into(), &replacements, &connections);
        assert_eq!((churn.connections, churn.failed, churn.stale), (6, 1, 1));
        assert!((churn.latest_milliseconds - 100.000_001).abs() < 1e-9, "{churn:?}");
    }
}
