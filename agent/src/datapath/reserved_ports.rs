//! Ports of the node that its own connections must not be given: node ports, and those from which clients outside are
//! sent on. The kernel leaves out what `net.ipv4.ip_local_reserved_ports` lists (both families; ip-sysctl.rst). What
//! was added there is noted below the pins, by network namespace, so that clean-up takes back that and no more:
//!
//! ```text
//! reserved/NETNS/1024-32767    empty directories
//! ```

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read as _},
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use tracing::{info, warn};

use super::{
    Pins, SetupError, netns,
    pins::{at, create_dir, entries, remove_dirs},
};

/// `--service-node-port-range` of the API server, by default.
pub const NODE_PORTS: RangeInclusive<u16> = 30_000..=32_767;

const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
/// Every second port by itself takes 190 kB.
const LONGEST: usize = 1 << 18;
const GIVEN: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// Ports that the kernel must be left to hand out: a node without any reaches nobody.
const ENOUGH: usize = 1024;

/// Reserves what is not reserved yet, instead of what an earlier agent of these pins did. Where that cannot be, because
/// `/proc/sys` cannot be written or too few ports would be left to the node, the operator is told what to do.
///
/// # Errors
/// When the notes cannot be read or written.
pub fn reserve(pins: &Pins, ranges: &[RangeInclusive<u16>]) -> Result<(), SetupError> {
    let noted = own_note(pins)?;
    let Some(reserved) = read(RESERVED) else { return Ok(()) };
    let wanted: BTreeSet<u16> = ranges.iter().cloned().flatten().collect();
    let others = without(&reserved, &notes(&noted)?);
    let all: BTreeSet<u16> = others.union(&wanted).copied().collect();
    let given = read(GIVEN).unwrap_or_default();
    if given.difference(&all).count() < ENOUGH {
        warn!(
            "net.ipv4.ip_local_port_range leaves the node almost no port beside node ports and --snat-ports: none is \
             reserved, and the node's connections may be given them; widen the one or narrow the other"
        );
        return Ok(());
    }
    // The note first: an agent that is killed in between has noted too much, which clean-up finds out.
    let added: BTreeSet<u16> = wanted.difference(&others).copied().collect();
    remove_dirs(&noted)?;
    for range in text(&added).split(',').filter(|range| !range.is_empty()) {
        create_dir(&noted.join(range))?;
    }
    if all == reserved {
        return Ok(());
    }
    match write(&all) {
        Ok(()) => info!(ports = text(&added), "reserved: no connection of the node is given them by itself"),
        Err(error) if given.intersection(&added).next().is_some() => warn!(
            %error,
            "connections of the node may be given ports that services use: run `sysctl -w \
             net.ipv4.ip_local_reserved_ports={}`, or let the agent write {RESERVED}",
            text(&all)
        ),
        Err(_) => {}
    }
    Ok(())
}

/// Takes back what agents of these pins reserved, in whatever network namespace.
///
/// # Errors
/// The first namespace whose ports could not be given back.
pub(super) fn release_all(pins: &Pins) -> Result<(), SetupError> {
    for namespace in entries(&root(pins))? {
        let noted = root(pins).join(&namespace);
        // Where the namespace is gone, so is its list.
        match namespace.parse().ok().and_then(netns::find) {
            Some(found) => {
                netns::run(&found, || release_here(&noted)).map_err(at(&noted, "enter the namespace of"))??;
            }
            None => remove_dirs(&noted)?,
        }
    }
    remove_dirs(&root(pins))
}

fn release_here(noted: &Path) -> Result<(), SetupError> {
    if let Some(reserved) = read(RESERVED) {
        let others = without(&reserved, &notes(noted)?);
        if others != reserved {
            write(&others).map_err(at(RESERVED.as_ref(), "write"))?;
        }
    }
    remove_dirs(noted)
}

/// What others have reserved. A list that lacks some of ours was written by somebody else since: all of it is theirs.
fn without(reserved: &BTreeSet<u16>, ours: &BTreeSet<u16>) -> BTreeSet<u16> {
    if ours.is_subset(reserved) { reserved.difference(ours).copied().collect() } else { reserved.clone() }
}

fn notes(noted: &Path) -> Result<BTreeSet<u16>, SetupError> {
    Ok(entries(noted)?.iter().filter_map(|ranges| ports(ranges)).flatten().collect())
}

/// An empty write would change nothing (proc_do_large_bitmap, kernel/sysctl.c), a line end clears the list.
fn write(ports: &BTreeSet<u16>) -> io::Result<()> {
    fs::write(RESERVED, text(ports) + "\n")
}

fn root(pins: &Pins) -> PathBuf {
    pins.root().join("reserved")
}

fn own_note(pins: &Pins) -> Result<PathBuf, SetupError> {
    let namespace = netns::own().map_err(at("/proc/thread-self/ns/net".as_ref(), "stat"))?;
    Ok(root(pins).join(namespace.to_string()))
}

/// `None` where the kernel has no such list, or says something that is none.
fn read(path: &str) -> Option<BTreeSet<u16>> {
    // All in one read: a second one finds nothing (proc_do_large_bitmap, kernel/sysctl.c).
    let mut text = vec![0; LONGEST];
    let length = File::open(path).and_then(|mut file| file.read(&mut text)).ok()?;
    // The range that connections are given is written `32768	60999`.
    ports(&str::from_utf8(&text[..length]).ok()?.trim().replace('\t', "-"))
}

/// `1,5-7` as ports; empty is none of them.
fn ports(ranges: &str) -> Option<BTreeSet<u16>> {
    let mut ports = BTreeSet::new();
    for range in ranges.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        ports.extend(first.parse::<u16>().ok()?..=last.parse().ok()?);
    }
    Some(ports)
}

/// Ports as the kernel writes them: `1,5-7`.
fn text(ports: &BTreeSet<u16>) -> String {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for port in ports {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*port) => *last = *port,
            _ => ranges.push((*port, *port)),
        }
    }
    let range = |(first, last): &(u16, u16)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.iter().map(range).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_list_is_read_as_the_kernel_writes_it() {
        assert_eq!(ports(""), Some(BTreeSet::new()));
        assert_eq!(ports("8080,9148-9150"), Some([8080, 9148, 9149, 9150].into()));
        assert_eq!(ports("65535"), Some([65_535].into()));
        assert_eq!(ports("70000"), None);
        assert_eq!(text(&[8080, 9148, 9149, 9150, 65_535].into()), "8080,9148-9150,65535");
    }

    #[test]
    fn a_list_that_somebody_else_wrote_is_left_to_them() {
        let set = |text| ports(text).unwrap();
        assert_eq!(without(&set("1-9,20"), &set("1-9")), set("20"));
        assert_eq!(without(&set("5-9"), &set("1-9")), set("5-9"));
        assert_eq!(without(&set("20"), &set("")), set("20"));
    }

    proptest! {
        #[test]
        fn whatever_ports_there_are_they_are_read_back(some in prop::collection::btree_set(any::<u16>(), 0..50)) {
            prop_assert_eq!(ports(&text(&some)), Some(some));
        }
    }
}
