//! The directory of the pins: whose it is, and what is said of one that cannot serve.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    thread,
    time::{Duration, Instant},
};

use millrace_tests::{
    agent::{Agent, run_to_end},
    manifests::Manifests,
};

use crate::{assert_says, network, refusal, refused_start};

/// As systemd mounts it: only root may look.
#[test]
fn who_may_not_look_is_told_so_and_not_that_there_is_nothing() {
    let network = network();
    let (node, manifests) = (network.node("n1").unwrap(), Manifests::create().unwrap());
    Agent::start(node, &manifests, &[]).unwrap().terminate().unwrap();
    fs::set_permissions(&node.bpffs.path, Permissions::from_mode(0o700)).unwrap();
    let bpffs = node.bpffs.path.display().to_string();
    for path in [bpffs.clone(), format!("{bpffs}/below")] {
        for verb in ["cleanup", "status", "services"] {
            let output = run_to_end(&node.place(), &[verb, "--bpffs", &path], true).unwrap();
            assert!(!output.status.success(), "{verb}: {}", String::from_utf8_lossy(&output.stdout));
            assert_says(&String::from_utf8_lossy(&output.stderr), &[&path, "as root"]);
        }
    }
    assert!(node.bpffs.path.join("links/connect4").exists());
}

/// A lock on a directory is for everybody who may read it.
#[test]
fn nobody_but_root_can_keep_an_agent_from_starting() {
    let network = network();
    let (node, manifests) = (network.node("n1").unwrap(), Manifests::create().unwrap());
    let own = node.bpffs.path.join("own");
    let agent = Agent::spawn(node, &manifests, &["--bpffs", &own.display().to_string()]).unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    while !own.join("links/connect6").exists() {
        assert!(Instant::now() < deadline, "{}", agent.log_tail());
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(fs::metadata(&own).unwrap().permissions().mode() & 0o777, 0o700);
    agent.terminate().unwrap();
}

#[test]
fn a_name_that_no_bpf_file_system_takes_is_refused_with_the_reason() {
    let network = network();
    let (node, manifests) = (network.node("n1").unwrap(), Manifests::create().unwrap());
    let dotted = node.bpffs.path.join("node.one").display().to_string();
    assert_says(&refused_start(node, &manifests, &["--bpffs", &dotted]), &[&dotted, "a dot", "--bpffs"]);
}

#[test]
fn a_pin_that_is_gone_is_named_with_the_remedy_which_helps() {
    let network = network();
    let (node, manifests) = (network.node("n1").unwrap(), Manifests::create().unwrap());
    let bpffs = node.bpffs.path.display().to_string();
    Agent::start(node, &manifests, &[]).unwrap().terminate().unwrap();
    for name in ["NAMES", "STATS", "CT_V4"] {
        let pin = node.bpffs.path.join("maps").join(name);
        fs::remove_file(&pin).unwrap();
        let verb = if name == "NAMES" { "services" } else { "status" };
        let text = refusal(node, &[verb, "--bpffs", &bpffs]);
        assert_says(&text, &[&pin.display().to_string(), "millrace-agent run"]);
        Agent::start(node, &manifests, &[]).unwrap().terminate().unwrap();
        let output = run_to_end(&node.place(), &[verb, "--bpffs", &bpffs], false).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
