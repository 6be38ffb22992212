//! Takes kube-proxy's leftovers out of this network namespace: its iptables rules (both back ends), its nftables tables
//! and its IPVS state, and nothing of anybody else.
//!
//! `iptables`, `nftables` and `ipvs` read what the host's tools print and plan, pure; `anchor` is what goes in first, so
//! that no translated connection hangs; `tools` runs the host's tools. [`plan`] looks, [`Plan::carry_out`] acts.

mod anchor;
pub mod iptables;
mod ipvs;
mod nftables;
mod tools;

use std::fs;

use self::tools::{Answer, ask};
pub use self::{ipvs::KUBE_IPVS0, tools::Error};
use crate::lb::Family;

/// Virtual servers of this network namespace; not there where the kernel has no IPVS, or has not loaded it.
const IP_VS: &str = "/proc/thread-self/net/ip_vs";

/// One call of a tool, and what it does in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub kind: Kind,
    /// The objects that it adds or removes, a line each.
    pub objects: Vec<String>,
    /// The one whose packets it concerns; `None`: those of no connection that netfilter translated.
    pub family: Option<Family>,
    pub program: String,
    pub arguments: Vec<String>,
    /// Its standard input.
    pub input: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Add,
    /// It stays for what it has, and gets nothing new.
    Drain,
    Remove,
}

/// What there is to do, in order, and what an operator must know besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// What stays, and what could not be looked for, with the reason.
    pub notes: Vec<String>,
    /// Something stays for now, and another run will find it.
    pub stays: bool,
}

impl Step {
    /// A line for each object; `done` tells whether it is so already.
    pub fn lines(&self, done: bool) -> impl Iterator<Item = String> + use<'_> {
        let verb = match (self.kind, done) {
            (Kind::Add, false) => "would add",
            (Kind::Add, true) => "added",
            (Kind::Drain, false) => "would drain",
            (Kind::Drain, true) => "drains",
            (Kind::Remove, false) => "would remove",
            (Kind::Remove, true) => "removed",
        };
        self.objects.iter().map(move |object| format!("{verb} {object}"))
    }
}

impl Plan {
    /// Does it, telling `said` each line once it is true. A removal that fails does not keep the others from being
    /// done; what must go in first does.
    ///
    /// # Errors
    /// The first that a tool reported.
    pub fn carry_out(&self, mut said: impl FnMut(String)) -> Result<(), Error> {
        let mut failed = None;
        for step in &self.steps {
            match (tools::act(step), step.kind) {
                (Ok(()), _) => step.lines(true).for_each(&mut said),
                (Err(error), Kind::Add) => return Err(error),
                (Err(error), Kind::Drain | Kind::Remove) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn absorb(&mut self, other: Self) {
        self.steps.extend(other.steps);
        self.notes.extend(other.notes);
        self.stays |= other.stays;
    }
}

/// Looks for everything of kube-proxy in this network namespace; changes nothing.
///
/// # Errors
/// A tool is there and cannot tell, as without root.
pub fn plan() -> Result<Plan, Error> {
    let mut plan = Plan::default();
    // Before the rules: until its device is gone, one of them refuses what no virtual server takes.
    let ipvs = ipvs_state(&mut plan.notes)?;
    plan.absorb(ipvs.servers);
    let mut fallbacks = Vec::new();
    for family in [Family::V4, Family::V6] {
        for (tool, saved) in saved_rules(family, &mut plan.notes)? {
            let found = iptables::plan(&tool, family, &saved);
            if !found.steps.is_empty() {
                fallbacks.push(anchor::in_iptables(&tool, family, &saved));
            }
            plan.absorb(found);
        }
    }
    let tables = answered("nft", &["-j", "list", "tables"], &mut plan.notes)?;
    if let Some(tables) = &tables {
        plan.steps.extend(nftables::plan(tables)?);
    }
    plan.steps.extend(ipvs.sets);
    let anchors = [Family::V4, Family::V6].into_iter().filter_map(|family| {
        let needed = plan.steps.iter().any(|step| step.family == Some(family));
        let fallback = || fallbacks.iter().find(|step| step.family == Some(family)).cloned();
        if !needed {
            None
        } else if tables.is_some() {
            Some(anchor::in_nftables(family))
        } else {
            fallback()
        }
    });
    let anchors: Vec<_> = anchors.collect();
    plan.steps.splice(..0, anchors);
    Ok(plan)
}

/// The rules of each back end that has a tool, as `iptables-save` prints them, under the tool's name.
fn saved_rules(family: Family, notes: &mut Vec<String>) -> Result<Vec<(String, String)>, Error> {
    let base = match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    };
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for tool in [format!("{base}-legacy"), format!("{base}-nft")] {
        // All tables that are there: naming one would make the kernel create it.
        found.extend(answered(&format!("{tool}-save"), &[], &mut missing)?.map(|saved| (tool, saved)));
    }
    if found.is_empty() {
        // Distributions with one back end give it no name of its own.
        found.extend(answered(&format!("{base}-save"), &[], &mut missing)?.map(|saved| (base.to_owned(), saved)));
    }
    notes.extend(missing);
    Ok(found)
}

fn ipvs_state(notes: &mut Vec<String>) -> Result<ipvs::Removal, Error> {
    let addresses = answered("ip", &["-j", "address", "show"], notes)?.unwrap_or_default();
    let sets = answered("ipset", &["save"], notes)?.unwrap_or_default();
    let mut servers = answered("ipvsadm", &["-L", "-n"], notes)?;
    if servers.is_none() && !ipvs::has_servers(&fs::read_to_string(IP_VS).unwrap_or_default()) {
        servers = Some(String::new());
    }
    ipvs::plan(&ipvs::Seen { addresses: &addresses, sets: &sets, servers: servers.as_deref() })
}

/// What a tool prints, or `None` and a note why there is nothing to read.
fn answered(program: &str, arguments: &[&str], notes: &mut Vec<String>) -> Result<Option<String>, Error> {
    match ask(program, arguments)? {
        Answer::Said(text) => return Ok(Some(text)),
        Answer::NotInstalled => {
            notes.push(format!("{program} is not installed: what it would show was not looked for"));
        }
        Answer::NotInKernel => notes.push(format!("{program}: this kernel has nothing that it could show")),
    }
    Ok(None)
}
