//! The programs of one iptables back end, called as kube-proxy calls them (pkg/util/iptables/iptables.go): with a lock
//! wait, without flushing, with counters.

use super::jumps::Jump;
use crate::rivals::{error::Error, namespace::Namespace, service::Family};

/// Which part of the kernel the rules go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// x_tables.
    Legacy,
    /// nf_tables, through the compatibility layer.
    Nft,
}

/// `-w 5 -W 100000`: kube-proxy's wait for the lock (seconds, then microseconds between attempts).
const WAIT: [&str; 4] = ["-w", "5", "-W", "100000"];

/// One back end in one namespace.
#[derive(Clone, Debug)]
pub(in crate::rivals) struct Tool {
    pub(in crate::rivals) backend: Backend,
    pub(in crate::rivals) namespace: Namespace,
}

impl Tool {
    fn program(&self, family: Family, what: &str) -> String {
        let base = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        let backend = match self.backend {
            Backend::Legacy => "legacy",
            Backend::Nft => "nft",
        };
        format!("{base}-{backend}{what}")
    }

    /// As in `iptables v1.8.9 (nf_tables)`.
    pub(in crate::rivals) fn version(&self) -> Result<String, Error> {
        let version = self.namespace.run(&self.program(Family::V4, ""), &["--version"], String::new())?;
        Ok(version.trim().to_owned())
    }

    /// Makes the chains of the jumps and the jumps, where they are missing (`EnsureChain`, `EnsureRule`).
    pub(in crate::rivals) fn ensure_jumps(&self, family: Family, jumps: &[Jump]) -> Result<(), Error> {
        let program = self.program(family, "");
        let in_table = |table| [WAIT.as_slice(), &["-t", table]].concat();
        for jump in jumps {
            // Status 1: it exists.
            let _made =
                self.namespace.succeeds(&program, &[in_table(jump.table).as_slice(), &["-N", jump.to]].concat())?;
            let rule = jump.arguments();
            let check = [in_table(jump.table).as_slice(), &["-C", jump.from], &rule].concat();
            if !self.namespace.succeeds(&program, &check)? {
                let insert = [in_table(jump.table).as_slice(), &["-I", jump.from], &rule].concat();
                self.namespace.run(&program, &insert, String::new())?;
            }
        }
        Ok(())
    }

    pub(in crate::rivals) fn restore(&self, family: Family, input: String) -> Result<(), Error> {
        let arguments = [WAIT.as_slice(), &["--noflush", "--counters"]].concat();
        self.namespace.run(&self.program(family, "-restore"), &arguments, input).map(drop)
    }

    pub(in crate::rivals) fn save(&self, family: Family, table: &str) -> Result<String, Error> {
        self.namespace.run(&self.program(family, "-save"), &["-t", table], String::new())
    }

    /// Takes every chain of kube-proxy, and the jumps to them, out of both tables.
    pub(in crate::rivals) fn remove_all(&self, family: Family) -> Result<(), Error> {
        for table in ["filter", "nat"] {
            let input = super::saved::removal(table, &self.save(family, table)?);
            if !input.is_empty() {
                self.restore(family, input)?;
            }
        }
        Ok(())
    }
}
