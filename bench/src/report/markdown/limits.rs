//! What a page's figures cannot show, and what was left out of them.

use crate::{
    cluster::Clients,
    contestants::Kind,
    report::{
        Report,
        bars::{listed, missing_sizes},
    },
};

pub(super) fn limits(report: &Report) -> String {
    let mut text = String::from(
        "## What these figures cannot show\n\n\
         - No network card and no wire: packets cross veth pairs of one kernel. On a network the direct path costs more, \
         and every ratio is closer to 1.\n\
         - One processor for client and server, so that no figure depends on where the scheduler puts them or on how long \
         an idle one takes to wake. Locks that many processors share cost nothing here.\n\
         - Processor time does not include kernel threads (ksoftirqd).\n\
         - At each size three services are called, over and over, so that what is known of them lies in the processor's \
         caches: what it costs where every packet is another service's, `cargo xtask bench packets` measures.\n\
         - The rivals' generators do less than kube-proxy where they differ, which favours the rivals; their memory is the \
         kernel's only, since no kube-proxy runs.\n",
    );
    text.push_str(memory(report));
    if report.has(Kind::Ipvs) {
        text.push_str(
            "- The kernel's memory for IPVS's virtual servers and endpoints: it charges no cgroup for them. What stands there \
             is its sets and rules.\n",
        );
    }
    text.push_str(&sizes(report));
    if report.clients != Clients::Pods {
        text.push_str("- Throughput: the direct path's own differs by a quarter from one moment to the next here.\n");
    }
    if report.clients == Clients::Through {
        text.push_str(
            "- What native XDP saves on a network card: a veth's driver has the packet in the stack's form already, and copies \
             it into XDP's first.\n",
        );
    }
    if !report.has(Kind::Ipvs) {
        text.push_str("- IPVS, which did not take part.\n");
    }
    if report.sizes.iter().all(|size| size.figures.iter().all(|figures| figures.churn.is_none())) {
        text.push_str(churn(report));
    }
    text
}

/// Two kinds of figure stand in one table.
fn memory(report: &Report) -> &'static str {
    if report.counts_programs() {
        "- One and the same measure of kernel memory: for millrace it is the sum of what the kernel says that its maps and \
         programs take, for a rival what a memory cgroup was charged while its tools ran, the allocator's own part included.\n"
    } else {
        "- One and the same measure of kernel memory: for millrace it is the sum of what the kernel says that its maps take, \
         without its programs, for a rival what a memory cgroup was charged while its tools ran, the allocator's own part \
         included.\n"
    }
}

/// Those that are measured unless others are asked for.
fn sizes(report: &Report) -> String {
    let missing = missing_sizes(report);
    if missing.is_empty() {
        return String::new();
    }
    let mut bounds = report.machine.guest.iter().flat_map(|guest| &guest.bounds);
    let why = if bounds.any(|bound| bound.starts_with("--sizes")) {
        "the run was bounded in time; `--sizes` asks for them"
    } else {
        "this run was not asked for them"
    };
    format!("- {} services, which are NOT MEASURED here: {why}.\n", listed(&missing))
}

const fn churn(report: &Report) -> &'static str {
    match (report.clients, &report.machine.guest) {
        (Clients::Outside | Clients::Through, _) => {
            "- Churn, which is NOT MEASURED here: who is misled how long while endpoints come and go is a question of when the \
             maps change, and for clients outside they are the same; `cargo xtask bench services` asks it for pods.\n"
        }
        (Clients::Pods, Some(_)) => {
            "- Churn, which is NOT MEASURED here: who is misled how long while endpoints come and go is a question of real \
             time; `cargo xtask bench services` asks it on the machine itself.\n"
        }
        (Clients::Pods, None) => {
            "- Churn, which is NOT MEASURED here: this run was not asked for it; `--churn` names one of its sizes.\n"
        }
    }
}
