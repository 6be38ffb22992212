//! Who is compared, and who is not, with the reason.

use crate::{cluster::Clients, contestants::Kind, report::Report, rivals::MINIMUM_SYNC_PERIOD};

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
    let unasked =
        Kind::ALL.into_iter().filter(|kind| report.participants.iter().all(|participant| participant.kind != *kind));
    for kind in unasked {
        let name = kind.name();
        let why = kind.why_not(report.clients).unwrap_or("this run was not asked for it");
        let where_else = elsewhere(kind, report.clients);
        text.push_str(&format!("- **{name}: NOT MEASURED, {why}.**{where_else}\n"));
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
        Kind::MillraceStack => {
            "`--host-routing off`: as the first, but packets between pods of one node pass its stack, as with all others. \
             So it is on a node whose firewall looks at what it forwards."
        }
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
