//! Kubernetes objects as the tests write them, and the directory that an agent reads them from.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A port of a Service.
#[derive(Clone, Debug)]
pub struct Port {
    pub name: String,
    /// As Kubernetes writes it: `TCP`, `UDP`.
    pub protocol: String,
    pub port: u16,
    pub target: u16,
    /// 0: none.
    pub node_port: u16,
}

/// One endpoint of a Service; its family is its address's.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub address: IpAddr,
    pub node: String,
    pub terminating: bool,
}

/// A Service in the namespace `default`, with the slices that its controller would write.
#[derive(Clone, Debug, Default)]
pub struct Service {
    pub name: String,
    /// One or two, of different families.
    pub cluster_ips: Vec<IpAddr>,
    pub ports: Vec<Port>,
    pub endpoints: Vec<Endpoint>,
    pub internal_local: bool,
    pub external_local: bool,
    /// `sessionAffinity: ClientIP`, seconds.
    pub affinity: Option<u32>,
    pub external_ips: Vec<IpAddr>,
    pub load_balancer: Option<LoadBalancer>,
}

/// The load balancer's part of a Service.
#[derive(Clone, Debug, Default)]
pub struct LoadBalancer {
    pub vips: Vec<IpAddr>,
    /// `VIP` or `Proxy`; `None` leaves it out.
    pub ip_mode: Option<String>,
    pub source_ranges: Vec<String>,
}

impl Service {
    /// The Service and one EndpointSlice for each family.
    #[must_use]
    pub fn objects(&self) -> Vec<Value> {
        [self.service()].into_iter().chain(self.cluster_ips.iter().map(|ip| self.slice(ip.is_ipv6()))).collect()
    }

    fn service(&self) -> Value {
        let policy = |local| if local { "Local" } else { "Cluster" };
        let ports: Vec<_> = self
            .ports
            .iter()
            .map(|p| {
                let mut port = json!({"name": p.name, "protocol": p.protocol, "port": p.port, "targetPort": p.target});
                if p.node_port > 0 {
                    port["nodePort"] = p.node_port.into();
                }
                port
            })
            .collect();
        let has_node_port = self.ports.iter().any(|port| port.node_port > 0);
        let kind = match &self.load_balancer {
            Some(_) => "LoadBalancer",
            None if has_node_port => "NodePort",
            None => "ClusterIP",
        };
        let mut spec = json!({
            "type": kind,
            "clusterIP": self.cluster_ips.first(),
            "clusterIPs": self.cluster_ips,
            "ipFamilies": self.cluster_ips.iter().map(|ip| family(ip.is_ipv6())).collect::<Vec<_>>(),
            "ipFamilyPolicy": if self.cluster_ips.len() > 1 { "RequireDualStack" } else { "SingleStack" },
            "selector": {"app": self.name},
            "internalTrafficPolicy": policy(self.internal_local),
            "ports": ports,
        });
        if kind != "ClusterIP" || !self.external_ips.is_empty() {
            spec["externalTrafficPolicy"] = policy(self.external_local).into();
        }
        if !self.external_ips.is_empty() {
            spec["externalIPs"] = json!(self.external_ips);
        }
        if let Some(seconds) = self.affinity {
            spec["sessionAffinity"] = "ClientIP".into();
            spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": seconds}});
        }
        let mut service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": self.name, "namespace": "default"},
        });
        if let Some(balancer) = &self.load_balancer {
            if !has_node_port {
                spec["allocateLoadBalancerNodePorts"] = false.into();
            }
            if !balancer.source_ranges.is_empty() {
                spec["loadBalancerSourceRanges"] = json!(balancer.source_ranges);
            }
            let ingress = balancer.vips.iter().map(|ip| match &balancer.ip_mode {
                Some(mode) => json!({"ip": ip, "ipMode": mode}),
                None => json!({"ip": ip}),
            });
            service["status"] = json!({"loadBalancer": {"ingress": ingress.collect::<Vec<_>>()}});
        }
        service["spec"] = spec;
        service
    }

    fn slice(&self, v6: bool) -> Value {
        let family = family(v6);
        let endpoints: Vec<_> = self
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.address.is_ipv6() == v6)
            .map(|endpoint| {
                json!({
                    "addresses": [endpoint.address],
                    "nodeName": endpoint.node,
                    "conditions":
                        {"ready": !endpoint.terminating, "serving": true, "terminating": endpoint.terminating},
                })
            })
            .collect();
        let ports: Vec<_> =
            self.ports.iter().map(|p| json!({"name": p.name, "protocol": p.protocol, "port": p.target})).collect();
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{}-{}", self.name, family.to_lowercase()), "namespace": "default",
                "labels": {"kubernetes.io/service-name": self.name},
            },
            "addressType": family,
            "endpoints": endpoints,
            "ports": ports,
        })
    }
}

/// A pod of the node, as the API server describes it; `socket_lb`: its annotation `millrace.io/socket-lb`.
#[must_use]
pub fn pod(node: &str, namespace: &str, name: &str, uid: &str, socket_lb: Option<&str>) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "uid": uid, "annotations": switch(socket_lb)},
        "spec": {"nodeName": node, "containers": [{"name": "probe"}]},
        "status": {"phase": "Running"},
    })
}

/// A namespace; `socket_lb`: its label.
#[must_use]
pub fn namespace(name: &str, socket_lb: Option<&str>) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": switch(socket_lb)}})
}

fn switch(socket_lb: Option<&str>) -> Value {
    socket_lb.map_or_else(|| json!({}), |value| json!({"millrace.io/socket-lb": value}))
}

const fn family(v6: bool) -> &'static str {
    if v6 { "IPv6" } else { "IPv4" }
}

/// A directory for `--source dir:PATH`; it goes when this is dropped.
#[derive(Debug)]
pub struct Manifests {
    directory: TempDir,
}

impl Manifests {
    /// # Errors
    /// If no temporary directory can be made.
    pub fn create() -> Result<Self> {
        let directory = TempDir::with_prefix(crate::netns::PREFIX)?;
        fs::create_dir(directory.path().join("manifests"))?;
        Ok(Self { directory })
    }

    /// What the agent is told to watch.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("manifests")
    }

    /// Files that are not for the agent: logs.
    #[must_use]
    pub fn beside(&self) -> &Path {
        self.directory.path()
    }

    /// Replaces a file by one with these objects, in one step.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn apply(&self, file: &str, objects: &[Value]) -> Result<()> {
        let mut text = String::new();
        for object in objects {
            text.push_str("---\n");
            text.push_str(&serde_saphyr::to_string(object).context("cannot write YAML")?);
        }
        let staged = self.directory.path().join("staged");
        fs::write(&staged, text)?;
        fs::rename(&staged, self.path().join(file))?;
        Ok(())
    }

    /// Removes a file.
    ///
    /// # Errors
    /// If it is not there.
    pub fn remove(&self, file: &str) -> Result<()> {
        fs::remove_file(self.path().join(file)).with_context(|| format!("no manifest {file}"))
    }
}
