//! What a source has said so far, folded into a picture of the cluster; tests wait for it to look as it should.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::Arc,
    time::{Duration, Instant},
};

use millrace_agent::{
    model::{EndpointSlice, Namespace, Node, Pod, Service, ServiceCidr},
    watch::{Change, Health, Output, Rejection},
};
use tokio::{sync::mpsc, time::timeout};

/// Longer than anything that a test waits for on a loaded machine; only failing tests wait that long.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct View {
    changes: mpsc::Receiver<Change>,
    pub health: Arc<Health>,
    /// By `namespace/name`.
    pub services: BTreeMap<String, Service>,
    pub slices: BTreeMap<String, EndpointSlice>,
    pub cidrs: BTreeMap<String, ServiceCidr>,
    pub node: Option<Node>,
    /// By `namespace/name`.
    pub pods: BTreeMap<String, Pod>,
    pub namespaces: BTreeMap<String, Namespace>,
    pub rejected: Vec<Rejection>,
    /// What was rejected and is no longer.
    pub settled: Vec<String>,
    /// Keys of the deletes, in the order that they came in.
    pub deletes: Vec<String>,
    pub synced: usize,
    pub pods_synced: usize,
    /// All that came, of whatever sort.
    pub changes_seen: usize,
}

impl View {
    /// A view, and what a source writes to.
    #[must_use]
    pub fn new() -> (Self, Output) {
        let (sender, changes) = mpsc::channel(16);
        let health = Arc::new(Health::default());
        let output = Output::new(sender, Arc::clone(&health));
        let view = Self {
            changes,
            health,
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            cidrs: BTreeMap::new(),
            node: None,
            pods: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            rejected: Vec::new(),
            settled: Vec::new(),
            deletes: Vec::new(),
            synced: 0,
            pods_synced: 0,
            changes_seen: 0,
        };
        (view, output)
    }

    /// Takes in changes until the picture is as wanted.
    ///
    /// # Panics
    ///
    /// When it does not become so; shows what is there instead.
    pub async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_so(self) {
            match timeout(end.saturating_duration_since(Instant::now()), self.changes.recv()).await {
                Ok(Some(change)) => self.take(change),
                Ok(None) => panic!("{what}: the source has ended; it said {self:#?}"),
                Err(_) => panic!("{what}: not so after {PATIENCE:?}; the source said {self:#?}"),
            }
        }
    }

    pub async fn until_synced(&mut self) {
        self.until("the source says all that it knows", |view| (view.synced, view.pods_synced) == (1, 1)).await;
    }

    /// Takes in whatever comes within a while.
    pub async fn settle(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Ok(Some(change)) = timeout(end.saturating_duration_since(Instant::now()), self.changes.recv()).await {
            self.take(change);
        }
    }

    /// Keys of the services, in order.
    #[must_use]
    pub fn service_names(&self) -> Vec<&str> {
        self.services.keys().map(String::as_str).collect()
    }

    /// The only ClusterIP of a service, or nothing.
    #[must_use]
    pub fn cluster_ip(&self, service: &str) -> Option<String> {
        self.services.get(service)?.cluster_ips.first().map(ToString::to_string)
    }

    #[must_use]
    pub fn was_rejected(&self, object: &str, reason: &str) -> bool {
        self.rejected.iter().any(|found| found.object.contains(object) && found.reason.contains(reason))
    }

    fn take(&mut self, change: Change) {
        self.changes_seen += 1;
        match change {
            Change::Service(key, object) => {
                put(&mut self.services, &mut self.deletes, key.to_string(), object.map(|it| *it));
            }
            Change::EndpointSlice(key, object) => {
                put(&mut self.slices, &mut self.deletes, key.to_string(), object.map(|it| *it));
            }
            Change::ServiceCidr(name, object) => put(&mut self.cidrs, &mut self.deletes, name.into(), object),
            Change::HostPorts(owner, _) => panic!("{owner}: no source of objects knows host ports"),
            Change::Node(node) => self.node = node.map(|it| *it),
            Change::Pod(key, object) => {
                put(&mut self.pods, &mut self.deletes, key.to_string(), object.map(|it| *it));
            }
            Change::Namespace(name, object) => put(&mut self.namespaces, &mut self.deletes, name.into(), object),
            Change::Rejected(rejection) => self.rejected.push(rejection),
            Change::Settled(doubt) => self.settled.push(doubt.to_string()),
            Change::Synced => self.synced += 1,
            Change::PodsSynced => self.pods_synced += 1,
        }
    }
}

/// A delete of what was never there is a fault of the source.
fn put<T: Debug>(objects: &mut BTreeMap<String, T>, deletes: &mut Vec<String>, key: String, object: Option<T>) {
    match object {
        Some(object) => drop(objects.insert(key, object)),
        None => {
            assert!(objects.remove(&key).is_some(), "delete of {key}, which was never said to exist");
            deletes.push(key);
        }
    }
}
