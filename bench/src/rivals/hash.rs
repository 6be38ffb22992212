//! The hash in the names of kube-proxy's chains: SHA-256 of a readable name, base32, cut (`portProtoHash` in
//! pkg/proxy/iptables/proxier.go, `hashAndTruncate` in pkg/proxy/nftables/proxier.go). Tools and kernel look chains up
//! by name, so the names must be as long and as random as the real ones.

use data_encoding::BASE32;
use sha2::{Digest, Sha256};

/// The first `length` characters of the name's hash.
pub(super) fn short(name: &str, length: usize) -> String {
    let mut encoded = BASE32.encode(&Sha256::digest(name.as_bytes()));
    encoded.truncate(length);
    encoded
}
