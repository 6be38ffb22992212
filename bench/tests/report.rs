//! The page that a run becomes: what a reader is told, and that nothing is left out in silence.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{fs, path::Path};

use millrace_bench::{
    contestants::Kind,
    machine::Guest,
    report::{Part, Participant, Report, bars::bars, markdown::page, plots::plots, read, write},
    rivals::Way,
    stats::Spread,
};

fn golden(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file)
}

/// Two sizes; at the larger one nftables was given up and a promise was not kept; no IPVS.
fn report() -> Report {
    read(&golden("report.json")).unwrap()
}

/// `MILLRACE_BLESS=1` writes the file; a reviewer sees what became of the page.
#[test]
fn the_page_says_what_the_run_found() {
    let page = page(&report());
    if std::env::var_os("MILLRACE_BLESS").is_some() {
        fs::write(golden("report.md"), &page).unwrap();
    }
    assert_eq!(page, fs::read_to_string(golden("report.md")).unwrap());
}

#[test]
fn a_promise_that_was_not_kept_is_said_to_be_so() {
    let bars = bars(&report());
    let met = |words: &str| bars.iter().find(|bar| bar.promise.contains(words)).unwrap().met;
    assert_eq!(met("1.02 of a direct one"), Some(false), "1.03 at 10,000");
    assert_eq!(met("a datagram and its answer"), Some(true), "1.03 at 10,000");
    assert_eq!(met("programming 10,000 services x 10 endpoints: at most"), Some(true), "0.08 s");
    assert_eq!(met("programming 100,000 services"), None, "it was not measured");
    assert_eq!(met("one change among 10,000 services, p99"), Some(true), "0.9 ms");
    assert_eq!(met("less than through any rival"), Some(true));
    assert_eq!(met("50 times as fast as iptables, legacy"), Some(true), "75 times");
    assert_eq!(met("50 times as fast as nftables"), Some(true), "120 s and more over 0.08 s");
    assert_eq!(met("3 times as fast as IPVS"), None, "it was not measured");
    assert_eq!(met("among 10,000 services: 100 times as fast as iptables, nft"), None, "it did not take part");
}

#[test]
fn a_rival_that_was_given_up_too_early_to_tell_keeps_its_promise_open() {
    let mut report = report();
    report.limit_seconds = 1.0;
    let bars = bars(&report);
    let bar = bars.iter().find(|bar| bar.promise.contains("50 times as fast as nftables")).unwrap();
    assert_eq!((bar.found.as_str(), bar.met), ("more than 12 times", None));
}

#[test]
fn what_was_not_measured_is_named_wherever_it_would_stand() {
    let page = page(&report());
    assert!(page.contains("**IPVS: NOT MEASURED, this kernel does not have it.**"), "{page}");
    let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| nftables")).collect();
    // One size was measured, the other given up; each table says so. The last column is the larger size.
    let silent = rows.iter().filter(|row| !row.contains("given up after 120 s")).count();
    assert!(!rows.is_empty() && silent == 0, "{rows:#?}");
}

/// Pages are light or dark: a plot must bring no background of its own and neither black nor white.
#[test]
fn plots_have_a_line_for_each_contestant_and_no_background() {
    let plots = plots(&report()).unwrap();
    assert_eq!(plots.len(), 3);
    for (name, svg) in plots {
        assert!(svg.starts_with("<svg"), "{name}");
        for kind in [Kind::Millrace, Kind::IptablesLegacy, Kind::Nftables] {
            assert!(svg.contains(kind.name()), "{name} lacks {}", kind.name());
        }
        for colour in ["#000000", "#FFFFFF"] {
            assert!(!svg.to_uppercase().contains(colour), "{name} has {colour}");
        }
    }
}

/// The same in a machine that was booted for IPVS.
fn report_in_vm() -> Report {
    let mut report = report();
    report.arguments = ["services", "--sizes", "1,10000"].map(str::to_owned).to_vec();
    report.machine.cpus = 1;
    report.machine.distribution = String::new();
    report.machine.guest = Some(Guest { emulated: true, host_load: [1.0, 3.0] });
    for participant in report.participants.iter_mut().filter(|participant| participant.kind == Kind::Ipvs) {
        *participant = Participant { kind: Kind::Ipvs, version: Some("ipvsadm v1.31".to_owned()), absent: None };
    }
    for size in &mut report.sizes {
        let mut figures = size.of(Kind::Millrace).unwrap().clone();
        figures.kind = Kind::Ipvs;
        figures.start = None;
        let own = figures.programming.unwrap().median;
        let spread = |median: f64| Spread { median, min: median, max: median };
        figures.programming = Some(spread(10.0 * own));
        figures.parts = vec![
            Part { way: Way::Decision, took: spread(own) },
            Part { way: Way::Netlink, took: spread(4.0 * own) },
            Part { way: Way::IpSets, took: spread(5.0 * own) },
        ];
        size.figures.retain(|figures| figures.kind != Kind::Ipvs);
        size.figures.push(figures);
        size.figures.iter_mut().for_each(|figures| figures.churn = None);
    }
    report
}

#[test]
fn a_page_from_a_virtual_machine_says_so_and_takes_no_other_pages_place() {
    let report = report_in_vm();
    let page = page(&report);
    if std::env::var_os("MILLRACE_BLESS").is_some() {
        fs::write(golden("report-vm.md"), &page).unwrap();
    }
    assert_eq!(page, fs::read_to_string(golden("report-vm.md")).unwrap());
    let out = tempfile::tempdir().unwrap();
    write(&report, out.path()).unwrap();
    assert!(out.path().join("benchmarks-vm.md").exists() && !out.path().join("benchmarks.md").exists());
    assert_eq!(read(&out.path().join("benchmarks-vm/services.json")).unwrap().machine, report.machine);
}

#[test]
fn the_promise_about_ipvs_is_held_against_its_netlink_part_alone() {
    let bars = bars(&report_in_vm());
    let bar = bars.iter().find(|bar| bar.promise.contains("IPVS over netlink")).unwrap();
    assert_eq!(bar.found, "4 times; 10 times with its IP sets, addresses and rules");
    assert_eq!(bar.met, Some(true), "3 are promised");
}

#[test]
fn a_run_that_nobody_else_took_part_in_has_plots_without_lines() {
    let mut report = report();
    for size in &mut report.sizes {
        size.figures.retain(|figures| figures.kind == Kind::Direct);
    }
    for (name, svg) in plots(&report).unwrap() {
        assert!(svg.starts_with("<svg") && !svg.contains(Kind::Millrace.name()), "{name}");
    }
}
