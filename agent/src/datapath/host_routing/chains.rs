//! The base chains of nf_tables in this network namespace, as the kernel lists them (linux/netfilter/nf_tables.h): those
//! of iptables' nft back end are among them.

use std::io;

use rtnetlink::{
    packet_core::{DefaultNla, NLA_TYPE_MASK, NetlinkBuffer, Nla as _, NlasIterator, Parseable as _},
    sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER},
};

pub(super) const FAMILY_INET: u8 = 1;
pub(super) const FAMILY_IPV4: u8 = 2;
pub(super) const FAMILY_NETDEV: u8 = 5;
pub(super) const FAMILY_IPV6: u8 = 10;

/// `NFPROTO_UNSPEC`: of all families.
const FAMILY_ALL: u8 = 0;
const SUBSYSTEM_NFTABLES: u16 = 10;
const GET_CHAIN: u16 = 4;
const HEADER: usize = 16;
/// `struct nfgenmsg`: family, version, two bytes of zero.
const GENERIC: usize = 4;
const ACCEPT: u32 = 1;

/// A chain that the kernel calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    /// `NFPROTO_*` of its table.
    pub family: u8,
    pub table: String,
    pub name: String,
    /// `NF_INET_*`, or `NF_NETDEV_*` of a chain of devices.
    pub hook: u32,
    /// `filter`, `nat` or `route`.
    pub kind: String,
    /// Packets that no rule decides about go on.
    pub accepts: bool,
    pub rules: u32,
    /// Of a chain of devices: their names, or how these begin.
    pub devices: Vec<String>,
}

/// All of them; none where the kernel has no nf_tables.
///
/// # Errors
/// The kernel's, among them that the chains changed meanwhile (`EINTR`).
pub(super) fn base_chains() -> io::Result<Vec<Chain>> {
    let mut socket = match Socket::new(NETLINK_NETFILTER) {
        Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => return Ok(Vec::new()),
        socket => socket?,
    };
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&request(), 0)?;
    let mut chains = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        match take(&datagram, &mut chains) {
            Ok(End::More) => {}
            Ok(End::Done) => return Ok(chains),
            // Nobody serves the subsystem.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        }
    }
}

fn request() -> [u8; HEADER + GENERIC] {
    let mut message = [0; HEADER + GENERIC];
    let mut header = NetlinkBuffer::new(&mut message[..]);
    header.set_length((HEADER + GENERIC) as u32);
    header.set_message_type(SUBSYSTEM_NFTABLES << 8 | GET_CHAIN);
    header.set_flags((libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16);
    message[HEADER] = FAMILY_ALL;
    message
}

#[derive(PartialEq, Eq, Debug)]
enum End {
    More,
    Done,
}

/// The chains of one datagram.
fn take(datagram: &[u8], chains: &mut Vec<Chain>) -> io::Result<End> {
    let mut rest = datagram;
    while rest.len() >= HEADER {
        let message = NetlinkBuffer::new_checked(rest).map_err(io::Error::other)?;
        if message.flags() & libc::NLM_F_DUMP_INTR as u16 != 0 {
            return Err(io::Error::from_raw_os_error(libc::EINTR));
        }
        match (i32::from(message.message_type()), message.payload()) {
            (libc::NLMSG_DONE, _) => return Ok(End::Done),
            (libc::NLMSG_ERROR, payload) => {
                let code = payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                return Err(io::Error::from_raw_os_error(code.wrapping_neg()));
            }
            (_, payload) => chains.extend(chain(payload)?),
        }
        rest = rest.get((message.length() as usize).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(End::More)
}

/// `None`: a chain that only others call.
fn chain(payload: &[u8]) -> io::Result<Option<Chain>> {
    let (generic, attributes) = payload.split_at_checked(GENERIC).ok_or_else(cut_off)?;
    let mut chain = Chain { family: generic[0], accepts: true, ..Chain::default() };
    let mut called = false;
    for (kind, value) in nested(attributes)? {
        match kind {
            1 => chain.table = text(&value),
            3 => chain.name = text(&value),
            4 => {
                called = true;
                place(&value, &mut chain)?;
            }
            5 => chain.accepts = number(&value) == ACCEPT,
            6 => chain.rules = number(&value),
            7 => chain.kind = text(&value),
            _ => {}
        }
    }
    Ok(called.then_some(chain))
}

/// `NFTA_CHAIN_HOOK`.
fn place(value: &[u8], chain: &mut Chain) -> io::Result<()> {
    for (kind, value) in nested(value)? {
        match kind {
            1 => chain.hook = number(&value),
            3 => chain.devices.push(text(&value)),
            4 => chain.devices.extend(nested(&value)?.iter().map(|(_, name)| text(name))),
            _ => {}
        }
    }
    Ok(())
}

fn nested(bytes: &[u8]) -> io::Result<Vec<(u16, Vec<u8>)>> {
    let attributes = NlasIterator::new(bytes).map(|attribute| {
        let attribute = DefaultNla::parse(&attribute.map_err(io::Error::other)?).map_err(io::Error::other)?;
        let mut value = vec![0; attribute.value_len()];
        attribute.emit_value(&mut value);
        Ok((attribute.kind() & NLA_TYPE_MASK, value))
    });
    attributes.collect()
}

/// Numbers of netfilter are in network order.
fn number(value: &[u8]) -> u32 {
    value.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "a message of nf_tables is cut off")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes.extend(payload);
        let length = bytes.len() as u32;
        let mut header = NetlinkBuffer::new(&mut bytes[..]);
        header.set_length(length);
        header.set_message_type(kind);
        header.set_flags(flags);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn listed(attributes: &[Vec<u8>]) -> Vec<u8> {
        let payload = [[FAMILY_INET, 0, 0, 0].to_vec(), attributes.concat()].concat();
        message(SUBSYSTEM_NFTABLES << 8 | 3, 2, &payload)
    }

    fn base() -> Vec<u8> {
        let hook = attribute(4 | 1 << 15, &[attribute(1, &2u32.to_be_bytes()), attribute(3, b"eth0\0")].concat());
        listed(&[
            attribute(1, b"t\0"),
            attribute(3, b"forward\0"),
            hook,
            attribute(5, &0u32.to_be_bytes()),
            attribute(6, &3u32.to_be_bytes()),
            attribute(7, b"filter\0"),
        ])
    }

    #[test]
    fn chains_that_the_kernel_calls_are_told_from_those_that_only_others_call() {
        let other = listed(&[attribute(1, b"t\0"), attribute(3, b"called\0"), attribute(6, &9u32.to_be_bytes())]);
        let mut chains = Vec::new();
        assert_eq!(take(&[base(), other].concat(), &mut chains).unwrap(), End::More);
        let wanted = Chain {
            family: FAMILY_INET,
            table: "t".into(),
            name: "forward".into(),
            hook: 2,
            kind: "filter".into(),
            accepts: false,
            rules: 3,
            devices: vec!["eth0".into()],
        };
        assert_eq!(chains, [wanted]);
        assert_eq!(take(&message(libc::NLMSG_DONE as u16, 2, &[0; 4]), &mut chains).unwrap(), End::Done);
    }

    #[test]
    fn a_list_that_changed_meanwhile_or_failed_is_no_list() {
        let interrupted = message(3, libc::NLM_F_DUMP_INTR as u16, &[0; 4]);
        assert_eq!(take(&interrupted, &mut Vec::new()).unwrap_err().raw_os_error(), Some(libc::EINTR));
        let refused = message(libc::NLMSG_ERROR as u16, 0, &(-libc::EPERM).to_ne_bytes());
        assert_eq!(take(&refused, &mut Vec::new()).unwrap_err().raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn whatever_is_cut_off_is_an_error_or_nothing() {
        let whole = base();
        for length in 0..whole.len() {
            let mut chains = Vec::new();
            let _ = take(&whole[..length], &mut chains);
            assert_eq!(chains, [], "{length} bytes");
        }
    }
}
