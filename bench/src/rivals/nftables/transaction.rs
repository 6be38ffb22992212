//! The input of `nft -f -` for one sync: all services, or the difference that one service makes. Pure.

use std::collections::HashSet;

use super::{
    content::{Chain, Content, Found, Place, content},
    foundation::{foundation, ip},
};
use crate::rivals::{
    service::{Family, Node, Service},
    text::Lines,
};

/// A transaction, and the chains that it leaves empty: kernels before 6.2 refuse to delete a chain right after the map
/// element that led to it, so kube-proxy deletes them with a sync at least a second later.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sync {
    pub transaction: String,
    pub stale: Vec<String>,
    /// Chains of services that the transaction fills: they are wanted again, if they were stale.
    pub filled: Vec<String>,
}

/// A full sync of one family. `before` are the services that the table has, of which chains may be left.
#[must_use]
pub fn full(node: &Node, family: Family, before: &[Service], services: &[Service]) -> Sync {
    let of_family = |service: &&Service| service.family() == family;
    let mut tx = Lines::default();
    foundation(&mut tx, node, family);
    let mut filled = Vec::new();
    let contents: Vec<_> = services.iter().filter(of_family).map(|service| content(node, service)).collect();
    for content in &contents {
        for chain in &content.chains {
            declare(&mut tx, family, &chain.name);
            filled.push(chain.name.clone());
        }
    }
    // As knftables sends them: elements and rules in the order of the services, each on a line of its own.
    for content in &contents {
        for (place, found) in &content.elements {
            add_element(&mut tx, family, place, found);
        }
        content.chains.iter().for_each(|chain| add_rules(&mut tx, family, chain));
    }
    let wanted: HashSet<&str> = filled.iter().map(String::as_str).collect();
    let old = before.iter().filter(of_family).flat_map(|service| content(node, service).chains);
    let stale: Vec<_> = old.map(|chain| chain.name).filter(|name| !wanted.contains(name.as_str())).collect();
    empty(&mut tx, family, &stale);
    Sync { transaction: tx.into_string(), stale, filled }
}

/// A partial sync: the service was `before` and becomes `after`; `None`: it is not there.
#[must_use]
pub fn partial(node: &Node, family: Family, before: Option<&Service>, after: Option<&Service>) -> Sync {
    let [before, after] =
        [before, after].map(|service| service.map(|service| content(node, service)).unwrap_or_default());
    let mut tx = Lines::default();
    for chain in &after.chains {
        declare(&mut tx, family, &chain.name);
    }
    elements(&mut tx, family, &before, &after);
    for chain in &after.chains {
        add_rules(&mut tx, family, chain);
    }
    let filled: Vec<_> = after.chains.into_iter().map(|chain| chain.name).collect();
    let stale: Vec<_> =
        before.chains.into_iter().map(|chain| chain.name).filter(|name| !filled.contains(name)).collect();
    empty(&mut tx, family, &stale);
    for place in before.elements.keys().filter(|place| !after.elements.contains_key(place)) {
        delete_element(&mut tx, family, place);
    }
    Sync { transaction: tx.into_string(), stale, filled }
}

/// Deletes chains that an earlier sync left empty.
#[must_use]
pub fn deletion(family: Family, chains: &[String]) -> String {
    let ip = ip(family);
    chains.iter().map(|chain| format!("delete chain {ip} kube-proxy {chain}\n")).collect()
}

/// New and changed elements (`nftElementStorage.ensureElem`).
fn elements(tx: &mut Lines, family: Family, before: &Content, after: &Content) {
    for (place, found) in &after.elements {
        match before.elements.get(place) {
            Some(old) if old == found => {}
            Some(_) => {
                delete_element(tx, family, place);
                add_element(tx, family, place, found);
            }
            None => add_element(tx, family, place, found),
        }
    }
}

fn declare(tx: &mut Lines, family: Family, chain: &str) {
    let ip = ip(family);
    tx.put(format_args!("add chain {ip} kube-proxy {chain}\nflush chain {ip} kube-proxy {chain}"));
}

fn empty(tx: &mut Lines, family: Family, chains: &[String]) {
    let ip = ip(family);
    for chain in chains {
        tx.put(format_args!("flush chain {ip} kube-proxy {chain}"));
    }
}

fn add_rules(tx: &mut Lines, family: Family, chain: &Chain) {
    let (ip, name) = (ip(family), &chain.name);
    for rule in &chain.rules {
        tx.put(format_args!("add rule {ip} kube-proxy {name} {rule}"));
    }
}

fn add_element(tx: &mut Lines, family: Family, place: &Place, found: &Found) {
    let (ip, Place { container, key }) = (ip(family), place);
    let comment = if found.comment.is_empty() { String::new() } else { format!(" comment \"{}\"", found.comment) };
    let verdict = if found.verdict.is_empty() { String::new() } else { format!(" : {}", found.verdict) };
    tx.put(format_args!("add element {ip} kube-proxy {container} {{ {key}{comment}{verdict} }}"));
}

fn delete_element(tx: &mut Lines, family: Family, place: &Place) {
    let (ip, Place { container, key }) = (ip(family), place);
    tx.put(format_args!("delete element {ip} kube-proxy {container} {{ {key} }}"));
}
