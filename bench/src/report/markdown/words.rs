//! What stands around the figures.

use crate::{
    cluster::{Clients, Families},
    contestants::Kind,
    machine::Guest,
    report::{
        Report,
        bars::{Bar, bars},
    },
    rivals::MINIMUM_SYNC_PERIOD,
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
         node of its own (network namespaces joined by veth), measured in turns of milliseconds. **Ratios count, not \
         microseconds**: every ratio is to the direct path of the same run, and stands as median (smallest-largest) of {} \
         runs.\n\n\
         {}{}Machine: {} ({} {}{}, {:.0} GiB), kernel {}{}. Load average {:.1} at the beginning and {:.1} at the \
         end, the bench's own processes included. Other work of the machine stands back: all tools and agents run at \
         nice -15, client and server share one processor under SCHED_FIFO.\n",
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
    match &report.machine.guest {
        None => String::new(),
        Some(Guest { emulated: true, .. }) => "**Emulated**: the machine's processor is software, and its clock advances \
             one nanosecond with each instruction, whatever its host does. Each time on this page is therefore a number of \
             instructions, each ratio one of work to be done: no cache, no branch prediction and no second processor is \
             in any of them. Where it only waits, its clock jumps to the next timer: a packet that is sent again after a \
             second counts a thousand million of them. Figures may be compared with each other and with nothing else; what \
             a real processor makes of them, a run on a kernel with IPVS says.\n\n"
            .to_owned(),
        Some(Guest { host_load: [before, after], .. }) => format!(
            "The load average of the machine's host was {before:.1} before and {after:.1} after the run, the machine \
             included.\n\n"
        ),
    }
}

/// Promises and what was found, as a section.
#[must_use]
pub fn held_against(bars: &[Bar]) -> String {
    let mut text =
        String::from("## What is promised, and what this run says\n\n| promise | found | |\n|---|---|---|\n");
    for bar in bars {
        let met = match bar.met {
            Some(true) => "met",
            Some(false) => "**not met**",
            None => "open",
        };
        text.push_str(&format!("| {} | {} | {met} |\n", bar.promise, bar.found));
    }
    text
}

pub(super) fn promises(report: &Report) -> String {
    let endpoint = "\nA node pays for what is attached to its pods' devices with every packet, whether it is a service's or not: \
            the lines *endpoint* below show how much. millrace's programs there serve UDP and all that the socket hooks do \
            not; the rivals' share is netfilter's hooks and connection tracking. Where millrace's are below 1, it is because \
            packets from pod to pod of one node go past its stack (`--host-routing`), which no other does.\n";
    held_against(&bars(report)) + if report.clients == Clients::Pods { endpoint } else { "" }
}

pub(super) fn plots(report: &Report) -> String {
    let plot = |file, what| format!("![{what}, by number of services]({}/{file})\n", report.name());
    [
        plot("connect.svg", "Time of connect() to a random service, as a ratio to the direct path"),
        plot("programming.svg", "Milliseconds to program all services"),
        plot("change.svg", "Milliseconds for one change"),
    ]
    .join("\n")
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

pub(super) fn participants(report: &Report) -> String {
    let mut text = String::from("## Who was compared\n\n");
    for participant in &report.participants {
        let name = participant.kind.name();
        let what = what(participant.kind, report.clients);
        let line = match (&participant.absent, &participant.version) {
            (Some(why), _) => {
                format!("- **{name}: NOT MEASURED, {why}.** {what}{}\n", elsewhere(participant.kind, report.clients))
            }
            (None, Some(version)) => format!("- **{name}**: {what} ({version})\n"),
            (None, None) => format!("- **{name}**: {what}\n"),
        };
        text.push_str(&line);
    }
    let unasked = Kind::ALL.into_iter().filter(|kind| {
        kind.serves(report.clients) && report.participants.iter().all(|participant| participant.kind != *kind)
    });
    for kind in unasked {
        let name = kind.name();
        let where_else = elsewhere(kind, report.clients);
        text.push_str(&format!("- **{name}: NOT MEASURED, this run was not asked for it.**{where_else}\n"));
    }
    text + &format!(
        "\nkube-proxy itself is not run: each mode's rules are generated as its proxier lays them out and applied with \
         the same tools. It also waits up to its minimum sync period ({} s) before it acts on a change; no figure \
         here includes that.\n\n## Figures\n",
        MINIMUM_SYNC_PERIOD.as_secs()
    )
}

const fn what(kind: Kind, clients: Clients) -> &'static str {
    match kind {
        Kind::Millrace if !matches!(clients, Clients::Pods) => "packets are translated on tc, at the uplink.",
        Kind::MillraceXdpGeneric => "`--xdp generic`: the same before tc, in the kernel's stack.",
        Kind::MillraceXdpNative => "`--xdp native`: the same in the uplink's driver.",
        Kind::Direct => "no proxy; clients call the endpoints. What all ratios are to.",
        Kind::Millrace => "connections of pods are translated in connect(); UDP per packet.",
        Kind::MillraceTc => "`--socket-lb host-only`: pods are translated per packet, on their veths.",
        Kind::IptablesLegacy => "kube-proxy's iptables mode over x_tables.",
        Kind::IptablesNft => "kube-proxy's iptables mode over nf_tables.",
        Kind::Nftables => "kube-proxy's nftables mode: verdict maps.",
        Kind::Ipvs => {
            "kube-proxy's IPVS mode: virtual servers and endpoints over one netlink socket, a message for each; IP sets, \
             and a few iptables rules."
        }
    }
}

/// Where one that is absent is measured all the same.
const fn elsewhere(kind: Kind, clients: Clients) -> &'static str {
    match kind {
        Kind::Ipvs if matches!(clients, Clients::Pods) => {
            " On a kernel without it, `cargo xtask bench services` measures it in a virtual machine with Debian's, beside \
             all others: [benchmarks-vm.md](benchmarks-vm.md)."
        }
        _ => "",
    }
}

pub(super) fn limits(report: &Report) -> String {
    let mut text = String::from(
        "## What these figures cannot show\n\n\
         - No network card and no wire: packets cross veth pairs of one kernel. On a network the direct path costs more, \
         and every ratio is closer to 1.\n\
         - One processor for client and server, so that no figure depends on where the scheduler puts them or on how long \
         an idle one takes to wake. Locks that many processors share cost nothing here.\n\
         - Processor time does not include kernel threads (ksoftirqd), which had next to nothing to do at this rate.\n\
         - The rivals' generators do less than kube-proxy where they differ, which favours the rivals; their memory is the \
         kernel's only, since no kube-proxy runs.\n",
    );
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
    if report.machine.guest.is_some() && report.sizes.iter().all(|size| size.figures.iter().all(|f| f.churn.is_none()))
    {
        text.push_str(
            "- Churn: who is misled how long while endpoints come and go is a question of real time; \
             `cargo xtask bench services` asks it on the machine itself.\n",
        );
    }
    text
}
