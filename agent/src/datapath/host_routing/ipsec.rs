//! IPsec policies of this network namespace, as the kernel counts them (linux/xfrm.h).

use std::io;

use rtnetlink::{
    packet_core::{DefaultNla, NLA_TYPE_MASK, NetlinkBuffer, Nla as _, NlasIterator, Parseable as _},
    sys::{Socket, SocketAddr, protocols::NETLINK_XFRM},
};

/// `XFRM_MSG_GETSPDINFO` and `XFRM_MSG_GETDEFAULT`.
const GET_COUNTS: u16 = 0x25;
const GET_DEFAULT: u16 = 0x28;
/// `XFRMA_SPD_INFO`.
const COUNTS: u16 = 1;
const HEADER: usize = 16;
/// What follows it: a word of flags, or `struct xfrm_userpolicy_default`.
const BODY: usize = 4;
/// `XFRM_USERPOLICY_BLOCK`.
const BLOCK: u8 = 1;

/// True if forwarded packets may meet one, or are blocked where none allows them.
///
/// # Errors
/// The kernel's.
pub(super) fn has_policies() -> io::Result<bool> {
    let mut socket = match Socket::new(NETLINK_XFRM) {
        Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => return Ok(false),
        socket => socket?,
    };
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(counts(&ask(&socket, GET_COUNTS)?)? || blocks(&ask(&socket, GET_DEFAULT)?))
}

/// The payload of the answer; empty where the kernel does not know the question.
fn ask(socket: &Socket, kind: u16) -> io::Result<Vec<u8>> {
    let mut message = [0; HEADER + BODY];
    let mut header = NetlinkBuffer::new(&mut message[..]);
    header.set_length((HEADER + BODY) as u32);
    header.set_message_type(kind);
    header.set_flags(libc::NLM_F_REQUEST as u16);
    socket.send(&message, 0)?;
    let (datagram, _) = socket.recv_from_full()?;
    let answer = NetlinkBuffer::new_checked(&datagram[..]).map_err(io::Error::other)?;
    let payload = answer.payload();
    if i32::from(answer.message_type()) != libc::NLMSG_ERROR {
        return Ok(payload.to_vec());
    }
    let code = payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code)).wrapping_neg();
    if code == libc::EINVAL { Ok(Vec::new()) } else { Err(io::Error::from_raw_os_error(code)) }
}

/// `struct xfrmu_spdinfo`: policies for packets that come, go and are forwarded, then those of sockets.
fn counts(payload: &[u8]) -> io::Result<bool> {
    for attribute in NlasIterator::new(payload.get(BODY..).unwrap_or_default()) {
        let attribute = DefaultNla::parse(&attribute.map_err(io::Error::other)?).map_err(io::Error::other)?;
        if attribute.kind() & NLA_TYPE_MASK == COUNTS {
            let mut value = vec![0; attribute.value_len()];
            attribute.emit_value(&mut value);
            let (words, _) = value.as_chunks::<4>();
            return Ok(words.iter().skip(1).take(2).any(|word| u32::from_ne_bytes(*word) > 0));
        }
    }
    Ok(false)
}

/// `struct xfrm_userpolicy_default`: what comes, is forwarded, goes.
fn blocks(payload: &[u8]) -> bool {
    payload.iter().skip(1).take(2).any(|policy| *policy == BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(counts: [u32; 6]) -> Vec<u8> {
        let mut payload = vec![0; BODY];
        payload.extend(28u16.to_ne_bytes());
        payload.extend(COUNTS.to_ne_bytes());
        payload.extend(counts.iter().flat_map(|count| count.to_ne_bytes()));
        payload
    }

    #[test]
    fn policies_for_what_is_forwarded_or_goes_count() {
        assert!(counts(&counted([0, 0, 1, 0, 0, 0])).unwrap() && counts(&counted([0, 1, 0, 0, 0, 0])).unwrap());
        assert!(!counts(&counted([1, 0, 0, 1, 1, 1])).unwrap(), "what comes to the node, and sockets' own");
        assert!(!counts(&[]).unwrap());
    }

    #[test]
    fn a_default_that_blocks_is_a_policy() {
        assert!(!blocks(&[2, 2, 2, 0]) && !blocks(&[]), "accept, or a kernel without defaults");
        assert!(blocks(&[2, BLOCK, 2, 0]) && blocks(&[2, 2, BLOCK, 0]));
        assert!(!blocks(&[BLOCK, 2, 2, 0]), "what comes to the node");
    }
}
