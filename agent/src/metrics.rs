//! `/metrics`: kube-proxy's names where the meaning is the same, so that dashboards go on working; `millrace_*` for the
//! rest. Counters of the kernel's programs and of the sources are read when they are asked for.

use std::sync::{Arc, atomic::AtomicU64};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text::encode},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::{
    datapath::{Pins, verdicts},
    watch::Health,
};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct MapLabel {
    pub map: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct PolicyLabel {
    /// `internal` or `external`.
    pub traffic_policy: &'static str,
}

/// What the decision loop counts.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// From a change's arrival to its effect in the maps, in seconds.
    pub change_to_effect: Histogram,
    /// One round of deciding and writing, in seconds.
    pub sync_duration: Histogram,
    /// From the trigger that the EndpointSlice names to its effect, in seconds.
    pub programming_duration: Histogram,
    pub service_changes: Counter,
    pub endpoint_changes: Counter,
    /// Seconds since 1970 of the last round that left nothing undone.
    pub last_sync: Gauge<f64, AtomicU64>,
    pub used: Family<MapLabel, Gauge>,
    pub capacity: Family<MapLabel, Gauge>,
    /// The longest run of slots that a service could be given: far below what is free, the slots are fragmented.
    pub longest_free: Family<MapLabel, Gauge>,
    /// Flows that hold a port of the node's address, from which their clients outside are sent on.
    pub snat_flows: Family<MapLabel, Gauge>,
    /// Ports that the flows to one backend have between them.
    pub snat_ports: Gauge,
    /// Devices of pods that reach each other past the node's stack.
    pub host_routing_devices: Gauge,
    /// Map operations that the kernel refused.
    pub failed_operations: Counter,
    /// Service ports that wait for room, and Services that wait for a map operation to succeed.
    pub waiting_ports: Gauge,
    /// Frontends that two Services claim; the younger one goes without.
    pub conflicts: Gauge,
    /// Services that stay as an earlier agent left them, for what was rejected may concern them.
    pub held_services: Gauge,
    pub no_local_endpoints: Family<PolicyLabel, Gauge>,
}

impl Metrics {
    #[must_use]
    pub fn new() -> Self {
        // 50 us to 26 s: from one store to a node that is far behind.
        let seconds = || Histogram::new(exponential_buckets(0.000_05, 2.0, 20));
        Self {
            change_to_effect: seconds(),
            sync_duration: seconds(),
            // kube-proxy's range: 1 ms to about 4 minutes.
            programming_duration: Histogram::new(exponential_buckets(0.001, 2.0, 19)),
            service_changes: Counter::default(),
            endpoint_changes: Counter::default(),
            last_sync: Gauge::default(),
            used: Family::default(),
            capacity: Family::default(),
            longest_free: Family::default(),
            snat_flows: Family::default(),
            snat_ports: Gauge::default(),
            host_routing_devices: Gauge::default(),
            failed_operations: Counter::default(),
            waiting_ports: Gauge::default(),
            conflicts: Gauge::default(),
            held_services: Gauge::default(),
            no_local_endpoints: Family::default(),
        }
    }

    /// How full a map is.
    pub fn occupied(&self, map: &'static str, used: u32, capacity: u32) {
        self.used.get_or_create(&MapLabel { map }).set(used.into());
        self.capacity.get_or_create(&MapLabel { map }).set(capacity.into());
    }

    /// A registry with these, the programs' verdicts and the source's counters.
    #[must_use]
    pub fn registry(&self, pins: Pins, source: Arc<Health>) -> Registry {
        let mut registry = Registry::default();
        let r = &mut registry;
        r.register(
            "millrace_change_to_effect_seconds",
            "From a change's arrival to its effect in the maps",
            self.change_to_effect.clone(),
        );
        r.register(
            "millrace_map_used",
            "Entries in use; of tables that forget their oldest (CT_NEW, AFFINITY, FRAGMENTS, SOCKETS) all that are not displaced \
             yet, also those that are over",
            self.used.clone(),
        );
        r.register("millrace_map_capacity", "Entries that the map has room for", self.capacity.clone());
        r.register(
            "millrace_map_longest_free",
            "The longest run of slots that a service could be given",
            self.longest_free.clone(),
        );
        r.register(
            "millrace_snat_flows",
            "Answered flows from outside that hold a port of the node's address",
            self.snat_flows.clone(),
        );
        r.register(
            "millrace_snat_ports_per_backend",
            "Ports that the flows from outside to one backend share; without one a flow is refused (drop_no_port)",
            self.snat_ports.clone(),
        );
        r.register(
            "millrace_host_routing_devices",
            "Devices of pods that reach each other past the node's stack; 0: by the stack",
            self.host_routing_devices.clone(),
        );
        r.register(
            "millrace_failed_operations",
            "Map operations that the kernel refused; they are tried again",
            self.failed_operations.clone(),
        );
        r.register(
            "millrace_waiting_ports",
            "Service ports that wait for room in the maps, and Services that wait for another attempt",
            self.waiting_ports.clone(),
        );
        r.register("millrace_conflicting_frontends", "Frontends that an older Service holds", self.conflicts.clone());
        r.register(
            "millrace_held_services",
            "Services that stay as an earlier agent left them until a rejected file or object is corrected; told once the source is \
             complete",
            self.held_services.clone(),
        );
        r.register(
            "kubeproxy_sync_proxy_rules_duration_seconds",
            "One round of deciding and writing",
            self.sync_duration.clone(),
        );
        r.register(
            "kubeproxy_network_programming_duration_seconds",
            "From the trigger that an EndpointSlice names to its effect",
            self.programming_duration.clone(),
        );
        r.register(
            "kubeproxy_sync_proxy_rules_service_changes",
            "Changes of Services seen",
            self.service_changes.clone(),
        );
        r.register(
            "kubeproxy_sync_proxy_rules_endpoint_changes",
            "Changes of EndpointSlices seen",
            self.endpoint_changes.clone(),
        );
        r.register(
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
            "When all was last in step",
            self.last_sync.clone(),
        );
        r.register(
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
            "Services with a Local policy and no local endpoint",
            self.no_local_endpoints.clone(),
        );
        registry.register_collector(Box::new(Read { pins, source }));
        registry
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// The text that Prometheus reads.
#[must_use]
pub fn text(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = encode(&mut text, registry);
    text
}

/// Read at each request.
#[derive(Debug)]
struct Read {
    pins: Pins,
    source: Arc<Health>,
}

impl Collector for Read {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let source = &self.source;
        for (name, help, count) in [
            ("millrace_rejected_objects", "Objects and files that made no sense", source.rejected.get()),
            (
                "millrace_left_out_parts",
                "Parts of objects in force that made no sense, or were said twice",
                source.left_out.get(),
            ),
            ("millrace_source_relists", "Complete lists asked for again", source.relists.get()),
            ("millrace_source_errors", "Failed requests and broken watches", source.errors.get()),
            ("millrace_source_other_kinds", "Documents of kinds that are not read", source.other_kinds.get()),
        ] {
            ConstCounter::new(count).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        let help = "How socket calls and packets ended, as `millrace-agent stats` explains";
        let mut family = encoder.encode_descriptor("millrace_verdicts", help, None, MetricType::Counter)?;
        for (verdict, count) in verdicts(&self.pins).unwrap_or_default() {
            let labels = [("verdict", verdict.name())];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashboards_find_kube_proxys_names_and_a_rejected_object_is_counted() {
        let metrics = Metrics::new();
        metrics.sync_duration.observe(0.001);
        let text = text(&metrics.registry(Pins::at("/nowhere"), Arc::default()));
        for line in [
            "kubeproxy_sync_proxy_rules_duration_seconds_count 1",
            "kubeproxy_sync_proxy_rules_service_changes_total 0",
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds 0.0",
            "millrace_rejected_objects_total 0",
            "millrace_left_out_parts_total 0",
        ] {
            assert!(text.contains(line), "no `{line}` in:\n{text}");
        }
    }
}
