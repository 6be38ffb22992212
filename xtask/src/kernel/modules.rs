//! Kernel modules that the tests need, in the order in which they load: a cloud kernel has few of them built in.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::command::program;

/// Devices between namespaces, hooks on them, and what tests put in between.
const WANTED: [&str; 10] =
    ["veth", "dummy", "bridge", "af_packet", "sch_ingress", "cls_bpf", "act_bpf", "sch_netem", "8021q", "sctp"];

/// What the rivals of the benchmarks are made of; nothing loads them on demand in the machine.
const RIVALS: [&str; 37] = [
    "nf_conntrack",
    "nf_nat",
    "nf_tables",
    "nft_compat",
    "nft_chain_nat",
    "nft_ct",
    "nft_fib_ipv4",
    "nft_fib_ipv6",
    "nft_masq",
    "nft_nat",
    "nft_numgen",
    "nft_reject_ipv4",
    "nft_reject_ipv6",
    "x_tables",
    "iptable_filter",
    "iptable_nat",
    "ip6table_filter",
    "ip6table_nat",
    "xt_addrtype",
    "xt_comment",
    "xt_conntrack",
    "xt_mark",
    "xt_MASQUERADE",
    "xt_nat",
    "xt_set",
    "xt_statistic",
    "xt_tcpudp",
    "ipt_REJECT",
    "ip6t_REJECT",
    "ip_set",
    "ip_set_bitmap_port",
    "ip_set_hash_ip",
    "ip_set_hash_ipport",
    "ip_set_hash_ipportip",
    "ip_set_hash_ipportnet",
    "ip_vs",
    "ip_vs_rr",
];

/// Decompresses the wanted modules and those that they need into `to`; returns their file names in load order.
pub(crate) fn install(modules: &Path, to: &Path) -> Result<Vec<String>> {
    fs::create_dir_all(to)?;
    let mut files = BTreeMap::new();
    find(&modules.join("kernel"), &mut files)?;
    let mut order = Vec::new();
    for name in WANTED.iter().chain(&RIVALS) {
        load(name, &files, to, &mut order)?;
    }
    Ok(order)
}

/// A module after everything that it depends on.
fn load(name: &str, files: &BTreeMap<String, PathBuf>, to: &Path, order: &mut Vec<String>) -> Result<()> {
    let file = format!("{name}.ko");
    // What is built into one series is a module in another; a device that is missing is the test's to report.
    let Some(source) = files.get(name) else { return Ok(()) };
    if order.contains(&file) {
        return Ok(());
    }
    let content = read(source).with_context(|| format!("kernel module {}", source.display()))?;
    for dependency in depends(&content) {
        load(&dependency, files, to, order)?;
    }
    fs::write(to.join(&file), content)?;
    order.push(file);
    Ok(())
}

/// Module names, as the kernel writes them, and their files.
fn find(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if let Some((name, _)) = path.file_name().and_then(|name| name.to_str()?.split_once(".ko")) {
            files.insert(name.replace('-', "_"), path.clone());
        }
    }
    Ok(())
}

fn read(file: &Path) -> Result<Vec<u8>> {
    if file.extension().is_some_and(|extension| extension == "xz") {
        let output = program("xz").args(["--decompress", "--stdout"]).arg(file).output()?;
        anyhow::ensure!(output.status.success(), "xz: {}", String::from_utf8_lossy(&output.stderr));
        return Ok(output.stdout);
    }
    Ok(fs::read(file)?)
}

/// The `depends=a,b` entry of the section .modinfo, a list of strings that end with a zero byte.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = module.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let value = module.get(start + KEY.len()..).unwrap_or_default();
    let value = value.split(|byte| *byte == 0).next().unwrap_or_default();
    let value = String::from_utf8_lossy(value);
    value.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::depends;

    #[test]
    fn a_modules_dependencies_are_read_from_its_information() {
        assert_eq!(
            depends(b"\x7fELF\0license=GPL\0depends=libcrc32c,udp-tunnel\0name=sctp\0"),
            ["libcrc32c", "udp_tunnel"]
        );
    }

    #[test]
    fn a_module_that_stands_alone_has_none() {
        assert!(depends(b"\0depends=\0name=veth\0").is_empty());
    }
}
