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
        ("--node-ip", "ff02::1"),
        ("--node-ip", "127.0.0.1"),
        ("--service-cidr", "10.0.0.0/33"),
        ("--service-cidr", "0.0.0.0/0"),
        ("--service-cidr", "10.96.0.0/12,::/0"),
        ("--nodeport-addresses", "secondary"),
        ("--snat-ports", "30000-1024"),
        ("--health-addr", "10256"),
        ("--metrics-addr", ":10249"),
        ("--socket-lb", "off"),
        ("--service-proxy-name", "mill race"),
        ("--service-proxy-name", "race."),
        ("--sync-timeout", "18446744073709551615"),
        ("--max-services", "0"),
        ("--max-services", "4294967295"),
        ("--max-frontends", "0"),
        ("--max-backends", "16777217"),
        ("--max-slots", "0"),
        ("--max-source-ranges", "0"),
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

/// Where a pod's template has no value for a variable: the option is as if nobody had named it.
#[test]
fn an_empty_variable_says_nothing_whatever_the_option() {
    for (verb, needed) in [
        ("run", &["--node-name", "n1", "--source", "dir:/nonexistent"][..]),
        ("status", &[]),
        ("services", &[]),
        ("cleanup", &[]),
    ] {
        let with = |variable: Option<(&str, &str)>| {
            let environment: Vec<_> = variable.into_iter().collect();
            // Of a path that nobody has, so that nothing is read or removed.
            let elsewhere = [&[verb][..], needed, &["--bpffs", "/sys/fs/bpf/no-such-agent"]].concat();
            agent(&elsewhere, &environment)
        };
        let without = with(None);
        assert_ne!(without.status.code(), Some(2), "{verb}: {}", text(&without.stderr));
        let help = text(&agent(&[verb, "--help"], &[]).stdout);
        let variables = help.split("[env: ").skip(1).filter_map(|rest| rest.split_once('='));
        let mut seen = 0;
        for (variable, _) in variables {
            for value in ["", " "] {
                let said = with(Some((variable, value)));
                let (got, wanted) = (text(&said.stderr), text(&without.stderr));
                assert_eq!(said.status.code(), without.status.code(), "{verb}, {variable}='{value}': {got}");
                assert_eq!(reason(&got), reason(&wanted), "{verb}, {variable}='{value}'");
            }
            seen += 1;
        }
        assert!(seen > 0, "{verb}: its variables were not found in:\n{help}");
    }
}

/// The last thing said: lines of the log before it carry the time.
fn reason(said: &str) -> &str {
    said.lines().last().unwrap_or_default()
}

#[test]
fn lists_may_have_blanks_and_end_with_a_comma() {
    for (variable, value) in [
        ("MILLRACE_SERVICE_CIDR", "10.96.0.0/12, fd00:96::/112,"),
        ("MILLRACE_NODE_IP", "198.51.100.7, 2001:db8::7,"),
        ("MILLRACE_DEVICE", " eth0, eth1,"),
        ("MILLRACE_NODEPORT_ADDRESSES", "primary, 10.0.0.0/8,"),
    ] {
        let output = agent(&RUN, &[(variable, value)]);
        assert_eq!(output.status.code(), Some(1), "{variable}={value}: {}", text(&output.stderr));
    }
}

#[test]
fn every_item_of_a_list_counts() {
    for (variable, value, wrong) in [
        ("MILLRACE_SERVICE_CIDR", "10.96.0.0/12, fd00::x/112", "fd00::x/112"),
        ("MILLRACE_NODE_IP", "198.51.100.7, 2001:db8::x", "2001:db8::x"),
    ] {
        let output = agent(&RUN, &[(variable, value)]);
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(wrong), "{variable}={value}: {said}");
    }
}

#[test]
fn a_switch_in_the_environment_is_on_or_off_in_every_usual_word() {
    for (value, on) in [("1", true), ("yes", true), ("true", true), ("on", true), ("0", false), ("no", false)] {
        // It is refused without --kube-proxy, which is how it shows that it counts; nothing else is done.
        for environment in
            [&[("MILLRACE_DRY_RUN", value)][..], &[("MILLRACE_KUBE_PROXY", "off"), ("MILLRACE_DRY_RUN", value)]]
        {
            let output = agent(&["cleanup", "--bpffs", "/sys/fs/bpf/no-such-agent"], environment);
            let refused = text(&output.stderr).contains("--dry-run is for --kube-proxy");
            assert_eq!((refused, output.status.code()), (on, Some(if on { 2 } else { 0 })), "{environment:?}");
        }
    }
}

#[test]
fn addresses_that_contradict_each_other_are_refused_with_what_to_write() {
    for (more, parts) in [
        (&["--node-ip", "198.51.100.7", "--node-ip", "198.51.100.8"][..], &["--node-ip", "198.51.100.8", "one"][..]),
        (
            &["--node-ip", "198.51.100.7", "--service-cidr", "198.51.0.0/16"],
            &["--service-cidr 198.51.0.0/16", "198.51.100.7", "--node-ip"],
        ),
    ] {
        let output = agent(&[&RUN[..], more].concat(), &[]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{more:?}: {said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{more:?}: {said}");
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
