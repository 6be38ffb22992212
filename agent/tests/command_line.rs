//! What the command line promises without a kernel's help: a manual, each option in the environment too, and values
//! that make no sense refused by the option's name.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::process::{Command, Output};

const RUN: [&str; 5] = ["run", "--node-name", "n1", "--source", "dir:/nonexistent"];

fn agent(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace-agent"));
    command.env_clear().envs(environment.iter().copied()).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn each_option_can_be_set_in_the_environment_under_its_own_name() {
    for verb in ["run", "status", "services", "backends", "conntrack", "stats", "cleanup"] {
        let help = text(&agent(&[verb, "--help"], &[]).stdout);
        let declared = help.lines().filter_map(|line| {
            let name = line.trim_start().trim_start_matches("-o, ").strip_prefix("--")?;
            name.split(' ').next()
        });
        let mut seen = 0;
        for option in declared.filter(|option| *option != "help") {
            let variable = format!("[env: MILLRACE_{}=]", option.to_uppercase().replace('-', "_"));
            let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(words.contains(&variable), "{verb} --{option}: no {variable}");
            seen += 1;
        }
        assert!(seen > 0, "{verb}: its options were not found in:\n{help}");
    }
}

#[test]
fn a_value_from_the_environment_counts_as_one_from_the_command_line() {
    let environment = [("MILLRACE_BPFFS", "/sys/fs/bpf/no-such-agent"), ("MILLRACE_OUTPUT", "json")];
    let said = text(&agent(&["status"], &environment).stderr);
    assert!(said.contains("/sys/fs/bpf/no-such-agent"), "{said}");
    let said = text(&agent(&RUN, &[("MILLRACE_MAX_SERVICES", "many")]).stderr);
    assert!(said.contains("--max-services"), "{said}");
}

#[test]
fn values_that_no_node_could_run_with_are_refused_by_the_options_name() {
    for (option, value) in [
        ("--node-name", ""),
        ("--source", "dir:"),
        ("--source", "file:/etc"),
        ("--node-ip", "here"),
        ("--service-cidr", "10.0.0.0/33"),
        ("--nodeport-addresses", "secondary"),
        ("--snat-ports", "30000-1024"),
        ("--health-addr", "10256"),
        ("--metrics-addr", ":10249"),
        ("--socket-lb", "off"),
        ("--sync-timeout", "18446744073709551615"),
        ("--max-services", "0"),
        ("--max-services", "4294967295"),
        ("--max-frontends", "0"),
        ("--max-backends", "16777217"),
        ("--max-slots", "0"),
        ("--max-flows", "2147483649"),
        ("--max-affinity", "1.5"),
        ("--max-sockets", "0"),
        ("--max-sockets", "4294967295"),
    ] {
        let output = agent(&[&RUN[..], &[option, value]].concat(), &[]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{option} {value}: {said}");
        assert!(said.contains(option), "{option} {value}: {said}");
    }
}

#[test]
fn a_relative_path_begins_at_the_working_directory() {
    let said = text(&agent(&["status", "--bpffs", "pins"], &[]).stderr);
    let path = std::env::current_dir().unwrap().join("pins");
    assert!(said.contains(&path.display().to_string()), "{said}");
}

#[test]
fn a_dry_run_of_the_agents_own_removal_is_refused_rather_than_done() {
    let output = agent(&["cleanup", "--dry-run", "--bpffs", "/sys/fs/bpf/no-such-agent"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--kube-proxy"), "{}", text(&output.stderr));
}
