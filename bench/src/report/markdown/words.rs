//! What stands around the figures.

use crate::{
    cluster::{Clients, Families},
    contestants::Kind,
    machine::Guest,
    report::{
        Report,
        bars::{Bar, bars},
    },
};

pub(super) fn opening(report: &Report) -> String {
    let machine = &report.machine;
    let virtually = if machine.virtual_machine { "a virtual machine" } else { "a machine" };
    let (option, place) = match machine.guest {
        Some(_) => (" --in-vm", "a virtual machine that was booted for its kernel"),
        None => ("", virtually),
    };
    format!(
        "# Benchmarks{}{}{}\n\n\
         One run of `cargo xtask bench services{option}`, {}, on {place}: {}, each on a \
         node of its own (network namespaces joined by veth), what clients see measured in turns of milliseconds, \
         in another order each time. **Ratios count, not \
         microseconds**: every ratio is to the direct path of the same run, and stands as median (smallest-largest) of {} \
         runs.\n\n\
         {}{}Machine: {} ({} {}{}, {:.0} GiB), kernel {}{}. Load average {:.1} at the beginning and {:.1} at the \
         end, the bench's own processes included. Other work of the machine stands back: client and server \
         share one processor under SCHED_FIFO, all tools and agents run beside it, where there is another, at nice -15.\n",
        match report.families {
            Families::V4 => "",
            Families::V6 => " over IPv6",
            Families::Dual => " with two families",
        },
        match report.clients {
            Clients::Pods => "",
            Clients::Outside => ", clients outside",
            Clients::Through => ", clients outside, endpoints elsewhere",
        },
        if machine.guest.is_some() { " in a virtual machine" } else { "" },
        machine.time,
        compared(report),
        report.runs,
        way(report.clients),
        guest(report),
        machine.cpu,
        machine.cpus,
        if machine.cpus == 1 { "processor" } else { "processors" },
        if machine.virtual_machine { ", virtual" } else { "" },
        machine.memory_gib,
        machine.kernel,
        if machine.distribution.is_empty() { String::new() } else { format!(", {}", machine.distribution) },
        machine.load[0],
        machine.load[1],
    )
}

/// What the packets of clients outside meet.
const fn way(clients: Clients) -> &'static str {
    match clients {
        Clients::Pods => "",
        Clients::Outside => {
            "Clients are outside, beyond a router, and call the services' node ports; the endpoints are on the node that \
             they call. The uplinks are like cables: what they carry has whole checksums, and is put together on arrival \
             (GRO).\n\n"
        }
        Clients::Through => {
            "Clients are outside, beyond a router, and call the services' node ports; the endpoints are on another node, so \
             that questions and answers come to the node by its uplink and leave by it again. The direct path leads through \
             that node, too, as through a router. The uplinks are like cables: what they carry has whole checksums, and is \
             put together on arrival (GRO). XDP looks at every packet that comes by an uplink: what is none of a service's \
             pays for that, too (the lines *endpoint*), and large packets of the stack's are worth less with it \
             (throughput).\n\n"
        }
    }
}

fn compared(report: &Report) -> &'static str {
    let has_rivals =
        report.participants.iter().any(|participant| participant.kind.is_rival() && participant.absent.is_none());
    match (has_rivals, report.has(Kind::Ipvs)) {
        (false, _) => "millrace and no proxy at all",
        (true, false) => "millrace, kube-proxy's modes and no proxy at all",
        (true, true) => "millrace, kube-proxy's modes, IPVS among them, and no proxy at all",
    }
}

/// What a reader must know of a machine that was booted for the run.
fn guest(report: &Report) -> String {
    let Some(Guest { emulated, host_load: [before, after], bounds }) = &report.machine.guest else {
        return String::new();
    };
    let mut text = if *emulated {
        "**Emulated**: the machine's processor is software, and its clock advances \
             one nanosecond with each instruction, whatever its host does. Each time on this page is therefore a number of \
             instructions, each ratio one of work to be done: no cache, no branch prediction and no second processor is \
             in any of them. Where it only waits, its clock jumps to the next timer: a packet that is sent again after a \
             second counts a thousand million of them. Figures may be compared with each other and with nothing else; what \
             a real processor makes of them, a run on a kernel with IPVS says.\n\n"
            .to_owned()
    } else {
        format!(
            "The load average of the machine's host was {before:.1} before and {after:.1} after the run, the machine \
             included.\n\n"
        )
    };
    if !bounds.is_empty() {
        text.push_str(&format!(
            "Such a machine may be slow: the run was bounded in time by what it was not asked for itself: `{}`.\n\n",
            bounds.join(" ")
        ));
    }
    text
}

/// Promises and what was found, as a section.
#[must_use]
pub fn held_against(bars: &[Bar]) -> String {
    let mut text =
        String::from("## What is promised, and what this run says\n\n| promise | found | |\n|---|---|---|\n");
    for bar in bars {
        text.push_str(&format!("| {} | {} | {} |\n", bar.promise, bar.finding(), bar.verdict()));
    }
    text
}

pub(super) fn promises(report: &Report) -> String {
    let endpoint = "\nA node pays for what is attached to its pods' devices with every packet, whether it is a service's or not: \
            the lines *endpoint* below show how much. millrace's programs there serve UDP and all that the socket hooks do \
            not; the rivals' share is netfilter's hooks and connection tracking. Where millrace's are below 1, it is because \
            packets from pod to pod of one node go past its stack (`--host-routing`), which no other does; *millrace, stack* \
            goes without.\n";
    held_against(&bars(report)) + if report.clients == Clients::Pods { endpoint } else { "" }
}

pub(super) fn plots(report: &Report) -> String {
    let plot = |file, what| format!("![{what}, by number of services]({}/{file})\n", report.name());
    let packets = "Packets per second to a random service, as a ratio to the direct path";
    let mut plots = vec![
        plot("connect.svg", "Time of connect() to a random service, as a ratio to the direct path"),
        plot("programming.svg", "Milliseconds to program all services"),
        plot("change.svg", "Milliseconds for one change"),
    ];
    plots.extend(report.has_floods().then(|| plot("packets.svg", packets)));
    plots.join("\n")
}

pub(super) fn reproduce(report: &Report) -> String {
    format!(
        "## Reproduce\n\n```console\n# cargo xtask bench {}{}\n```\n\n\
         As root, on Debian 12 or newer; it fetches what it needs, takes down what it made, also on Ctrl-C, and writes \
         this page and [every figure as JSON]({}/services.json).{}\n",
        report.arguments.join(" "),
        if report.machine.guest.is_some() { " --in-vm" } else { "" },
        report.name(),
        match (report.families, report.clients) {
            (Families::V4, Clients::Pods) => {
                " With `--families 6` it measures IPv6, with `--clients outside` and `--clients through` node ports, each on a \
                 page of its own."
            }
            _ => "",
        },
    )
}
