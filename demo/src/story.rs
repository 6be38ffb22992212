//! The demo, chapter by chapter.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use millrace_bench::stats::percentile;
use millrace_tests::interrupt::pause;

use crate::{
    shop::{Entry, PodSpec},
    show::{self, Live},
    stage::{NODES, Stage},
    tally::{self, Reports, Row},
};

/// The service that loses and gains a pod, and the one whose latency is measured (one pod in each zone).
const CHANGED: &str = "cart";
const MEASURED: &str = "checkout";
/// Connections on each path.
const CONNECTIONS: u32 = 4000;
/// A change that has not shown after this long is a failure.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Story {
    stage: Stage,
    entries: Vec<Entry>,
    zones: BTreeMap<String, String>,
    /// Requests are watched for this part of the time.
    pace: NonZeroU32,
    /// Over all chapters.
    requests: u64,
    failures: u64,
}

impl Story {
    /// Builds the stage and opens for business.
    pub(crate) fn begin(entries: Vec<Entry>, pace: NonZeroU32) -> Result<Self> {
        let pods: Vec<PodSpec> = entries.iter().map(Entry::pods).collect::<Result<Vec<_>>>()?.concat();
        show::heading(
            "A cluster on this machine",
            "Network namespaces stand for nodes and pods; the servers, the clients and millrace-agent are real.",
        );
        let start = Instant::now();
        let bar = show::progress("wiring pods", true);
        let mut stage = Stage::build(&entries, &bar)?;
        bar.finish_and_clear();
        let nodes = NODES.map(|node| format!("{} in {}", node.name, node.zone)).join(", ");
        show::fact(&format!("{nodes}; {} pods, IPv4 and IPv6 ({:.1} s)", pods.len(), start.elapsed().as_secs_f64()));

        let start = Instant::now();
        let bar = show::progress("starting an agent on each node", false);
        for node in NODES {
            stage.start_agent(node.name)?;
        }
        bar.finish_and_clear();
        let seconds = start.elapsed().as_secs_f64();
        show::fact(&format!("millrace-agent on each node serves {} services ({seconds:.1} s)", entries.len()));

        let targets = entries.iter().map(Entry::target).collect::<Result<Vec<_>>>()?;
        stage.start_shoppers(&targets)?;
        let zones = pods.into_iter().map(|pod| (pod.name, pod.zone)).collect();
        Ok(Self { stage, entries, zones, pace, requests: 0, failures: 0 })
    }

    /// Chapter one: who answers whom.
    pub(crate) fn traffic(&mut self) -> Result<()> {
        show::heading(
            "1  Traffic by service, zone and backend",
            "A client on each node asks every service in turn, over a new connection each time, IPv4 and IPv6.",
        );
        let before = self.reports();
        let live = self.live();
        self.watch(&live, &before, Duration::from_secs(8))?;
        drop(live);
        show::table(&self.entries, &self.rows(&before));
        show::zones(&before, &self.reports(), &self.zones);
        self.close(&before)
    }

    /// Chapter two: endpoints come and go.
    pub(crate) fn endpoints(&mut self) -> Result<()> {
        show::heading(
            "2  A backend leaves, another comes, while requests flow",
            "Only the EndpointSlice manifests are edited; the agents see it and flip the service in one store.",
        );
        let before = self.reports();
        let live = self.live();
        self.watch(&live, &before, Duration::from_secs(2))?;

        let entry = self.entries.iter_mut().find(|entry| entry.name() == CHANGED).context("no such service")?;
        let leaving = entry.pods()?.into_iter().next().context("the service has no pods")?;
        entry.remove(&leaving.name);
        self.stage.apply(self.entry(CHANGED)?)?;
        let took = self.settled(&live, &before, &leaving.name, false)?;
        live.say(&format!("{} left the slices: no request reaches it {took}", leaving.name));
        self.stage.remove_pod(&leaving)?;
        live.say(&format!("{} is stopped and its network taken away", leaving.name));
        self.watch(&live, &before, Duration::from_secs(2))?;

        let [a, b, c, _] = leaving.v4.octets();
        let coming = PodSpec { name: format!("{CHANGED}-a9"), v4: Ipv4Addr::new(a, b, c, 200), ..leaving };
        self.stage.add_pod(&coming)?;
        self.zones.insert(coming.name.clone(), coming.zone.clone());
        let entry = self.entries.iter_mut().find(|entry| entry.name() == CHANGED).context("no such service")?;
        entry.add(&coming)?;
        self.stage.apply(self.entry(CHANGED)?)?;
        let took = self.settled(&live, &before, &coming.name, true)?;
        live.say(&format!("{} was added to the slices: its first request came {took}", coming.name));
        self.watch(&live, &before, Duration::from_secs(3))?;
        drop(live);
        let rows = self.rows(&before);
        let changed: Vec<_> = rows.get_key_value(CHANGED).into_iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        for (service, row) in changed {
            let answers: Vec<_> = row.answered.iter().map(|(pod, n)| format!("{pod} {n}")).collect();
            println!("  {service}: {} requests, {} failed; {}", row.total(), row.failed, answers.join(", "));
        }
        self.close(&before)
    }

    /// Chapter three: the agent dies.
    pub(crate) fn kill(&mut self) -> Result<()> {
        show::heading(
            "3  kill -9 of the agents, under load",
            "Programs and maps live in the kernel: traffic goes on without an agent, and the next one takes over.",
        );
        let before = self.reports();
        let live = self.live();
        self.watch(&live, &before, Duration::from_secs(1))?;
        for node in NODES {
            self.stage.agents.remove(node.name).context("no agent on this node")?.kill()?;
            live.say(&format!("millrace-agent on {} killed", node.name));
        }
        self.watch(&live, &before, Duration::from_secs(4))?;
        for node in NODES {
            let start = Instant::now();
            self.stage.start_agent(node.name)?;
            let milliseconds = start.elapsed().as_millis();
            live.say(&format!("millrace-agent on {} is back and up to date after {milliseconds} ms", node.name));
        }
        self.watch(&live, &before, Duration::from_secs(3))?;
        drop(live);
        self.close(&before)
    }

    /// Chapter four: what it costs.
    pub(crate) fn latency(&mut self) -> Result<()> {
        show::heading(
            "4  Connect latency, through the service and directly to its pod",
            "connect() in turn on both paths, from a pod to another pod of the same node, nothing else running.",
        );
        self.stage.shoppers.clear();
        let target = self.entry(MEASURED)?.target()?;
        let pods = self.entry(MEASURED)?.pods()?;
        let pod = pods.iter().find(|pod| pod.node == NODES[0].name).context("no pod on the first node")?;
        let bar = show::progress("measuring", false);
        let mut lines = Vec::new();
        for service in target.addresses {
            let ip = millrace_tests::address::in_family(pod.v4, service.is_ipv6());
            let direct = SocketAddr::new(ip, pod.port);
            let (d, s, rounds) = (direct.to_string(), service.to_string(), CONNECTIONS.to_string());
            let arguments = ["latency", "--rounds", &rounds, "--target", &d, "--target", &s];
            let printed = self.stage.run_in_shopper(NODES[0].name, &arguments)?;
            let samples: BTreeMap<String, Vec<u64>> = serde_json::from_str(&printed)?;
            let at = |target: &str, percent| {
                samples.get(target).map_or(0.0, |samples| percentile(samples, percent) as f64 / 1000.0)
            };
            lines.push(format!(
                "  {}  direct p50 {:5.1} us, p99 {:5.1} us   service p50 {:5.1} us, p99 {:5.1} us   p50 ratio {:.2}",
                if service.is_ipv6() { "IPv6" } else { "IPv4" },
                at(&d, 50.0),
                at(&d, 99.0),
                at(&s, 50.0),
                at(&s, 99.0),
                at(&s, 50.0) / at(&d, 50.0),
            ));
        }
        bar.finish_and_clear();
        lines.iter().for_each(|line| println!("{line}"));
        Ok(())
    }

    /// The sum; an error if any request failed.
    pub(crate) fn end(self) -> Result<()> {
        show::heading("In all", "");
        let text = format!("{} requests, {} failed", self.requests, self.failures);
        if self.failures > 0 {
            bail!("{text}");
        }
        show::fact(&text);
        Ok(())
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.entries.iter().find(|entry| entry.name() == name).with_context(|| format!("no service {name}"))
    }

    fn reports(&self) -> Reports {
        let zone = |node| NODES.iter().find(|spec| spec.name == node).map_or("", |spec| spec.zone);
        self.stage.shoppers.iter().map(|shopper| (zone(shopper.node).to_owned(), shopper.report())).collect()
    }

    fn rows(&self, before: &Reports) -> BTreeMap<String, Row> {
        tally::rows(before, &self.reports(), &self.zones)
    }

    fn live(&self) -> Live {
        Live::new(self.entries.iter().map(|entry| entry.name().to_owned()))
    }

    /// Shows the traffic since `before` for `duration`, or as much of it as the pace wants.
    fn watch(&self, live: &Live, before: &Reports, duration: Duration) -> Result<()> {
        let end = Instant::now() + duration / self.pace.get();
        while Instant::now() < end {
            live.update(&self.rows(before));
            pause(Duration::from_millis(200))?;
        }
        Ok(())
    }

    /// Waits until a pod gets requests, or none for half a second; says how long that took.
    fn settled(&self, live: &Live, before: &Reports, pod: &str, wanted: bool) -> Result<String> {
        let start = Instant::now();
        let (mut answers, mut last) = (tally::answers_of(pod, &self.reports()), Instant::now());
        while start.elapsed() < PATIENCE {
            pause(Duration::from_millis(20))?;
            let now = tally::answers_of(pod, &self.reports());
            if now > answers {
                (answers, last) = (now, Instant::now());
                if wanted {
                    return Ok(format!("within {} ms", start.elapsed().as_millis()));
                }
            }
            if !wanted && last.elapsed() > Duration::from_millis(500) {
                // The shoppers report every tenth of a second: the last answer lies up to that long before.
                return Ok(format!("from {} ms on", last.duration_since(start).as_millis()));
            }
            live.update(&self.rows(before));
        }
        bail!("{pod} {} after {PATIENCE:?}", if wanted { "gets no request" } else { "still gets requests" })
    }

    /// Ends a chapter: every request of it was answered, or we stop here.
    fn close(&mut self, before: &Reports) -> Result<()> {
        let rows = self.rows(before);
        let (mut requests, mut failures, mut problems) = (0, 0, Vec::new());
        for entry in &self.entries {
            let row = rows.get(entry.name()).cloned().unwrap_or_default();
            requests += row.total() + row.refused + row.failed;
            let failed = show::failures(entry, &row);
            failures += failed;
            if failed > 0 {
                let why = row.problem.as_deref().unwrap_or("refused");
                problems.push(format!("{}: {failed} failed, the first: {why}", entry.name()));
            }
        }
        self.requests += requests;
        self.failures += failures;
        if requests == 0 {
            bail!("no client has made a request");
        }
        if failures > 0 {
            bail!("of {requests} requests {failures} failed\n{}", problems.join("\n"));
        }
        show::fact(&format!("{requests} requests, none failed"));
        Ok(())
    }
}
