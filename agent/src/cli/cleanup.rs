//! `cleanup`: removes every trace of an agent that no longer runs, or of kube-proxy.

use anyhow::Result;
use clap::{Args, CommandFactory, builder::BoolishValueParser, error::ErrorKind};

use super::{Cli, Place, output};
use crate::{datapath::cleanup, migrate};

/// Removes every trace: programs on cgroups and devices, pinned links and maps; or kube-proxy's
///
/// Connections through services end with it. The agent must not run. Nothing is an error that is already gone.
#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    /// Remove what kube-proxy left instead, and nothing of the agent, which may run
    ///
    /// Its iptables rules (both back ends), nftables tables and IPVS state in this network namespace go; rules of
    /// others, the kubelet's KUBE-FIREWALL and KUBE-KUBELET-CANARY among them, stay. Connections that kube-proxy
    /// translated go on: a table `millrace` without effect on packets goes in first and may be deleted once they have
    /// ended. Needs the host's own tools (iptables-save, iptables-restore, nft; ip, ipvsadm and ipset for IPVS). Stop
    /// kube-proxy first, or it makes its rules again.
    ///
    /// IPVS ends a connection with its virtual server. So a virtual server that has any (UDP apart) gets no new ones and
    /// stays, and with it kube-ipvs0 and the sets: run this again until there is nothing to remove.
    #[arg(long, env = "MILLRACE_KUBE_PROXY", value_parser = BoolishValueParser::new())]
    kube_proxy: bool,
    /// With --kube-proxy: print what would be removed, and change nothing
    #[arg(long, env = "MILLRACE_DRY_RUN", value_parser = BoolishValueParser::new())]
    dry_run: bool,
}

pub(super) fn run(options: &Options) -> Result<()> {
    // Not `requires` of the option: to clap a variable that says `no` is there, too.
    if options.dry_run && !options.kube_proxy {
        let said = "--dry-run is for --kube-proxy: without it, what there is to remove would be removed";
        Cli::command().error(ErrorKind::MissingRequiredArgument, said).exit();
    }
    if options.kube_proxy {
        return remove_kube_proxy(options.dry_run);
    }
    for line in cleanup(&options.place.pins())? {
        output::line(&line)?;
    }
    Ok(())
}

fn remove_kube_proxy(dry_run: bool) -> Result<()> {
    let plan = migrate::plan()?;
    for note in &plan.notes {
        output::line(note)?;
    }
    if plan.steps.is_empty() {
        let more = if plan.stays { "nothing of kube-proxy to remove yet" } else { "nothing of kube-proxy to remove" };
        return output::line(more);
    }
    if dry_run {
        return plan.steps.iter().flat_map(|step| step.lines(false)).try_for_each(|line| output::line(&line));
    }
    let mut printed = Ok(());
    // A reader that went away must not stop it half way.
    let done = plan.carry_out(|line| {
        if printed.is_ok() {
            printed = output::line(&line);
        }
    });
    done?;
    printed
}
