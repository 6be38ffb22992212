//! The IPVS rival, where the kernel has IPVS: Debian's kernels do, and run this in a virtual machine. Needs root.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod rivals;

use millrace_bench::rivals::{Backend, Ipvs, Rival};

use rivals::{checks::all, stage::Stage};

#[test]
fn ipvs_does_what_kube_proxy_does() {
    let stage = Stage::new();
    if let Some(mut rival) = ipvs(&stage) {
        all(&mut rival, &stage);
    }
}

/// The rival; `None`, said aloud: this kernel has no IPVS.
fn ipvs(stage: &Stage) -> Option<Ipvs> {
    let rival = Ipvs::new(stage.namespace(), Backend::Nft, stage.node(), env!("CARGO_BIN_EXE_millrace-bench").into());
    if rival.is_supported().unwrap() {
        return Some(rival);
    }
    assert!(std::env::var_os("MILLRACE_MACHINE").is_none(), "Debian's kernel has IPVS, and its modules are loaded");
    eprintln!(
        "SKIPPED HERE: this kernel has no IPVS (CONFIG_IP_VS); `cargo xtask test` also runs it in virtual machines that have it"
    );
    None
}
