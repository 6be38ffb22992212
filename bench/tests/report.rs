//! The page that a run becomes: what a reader is told, and that nothing is left out in silence.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{fs, path::Path};

use millrace_bench::{
    cluster::{Clients, SIZES},
    contestants::Kind,
    machine::Guest,
    probe::client::Operation,
    report::{
        Figures, Part, Participant, Report, Size, Traffic,
        bars::{Bar, bars},
        markdown::page,
        plots::plots,
        read, write,
    },
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
    assert_eq!(met("50 times as fast as iptables, legacy"), Some(true), "75 times");
    assert_eq!(met("50 times as fast as nftables"), Some(true), "120 s and more over 0.08 s");
    assert_eq!(met("3 times as fast as IPVS"), None, "it was not measured");
    assert_eq!(met("among 10,000 services: 100 times as fast as iptables, nft"), None, "it did not take part");
}

fn row(report: &Report, words: &str) -> Bar {
    bars(report).into_iter().find(|bar| bar.promise.contains(words)).unwrap()
}

#[test]
fn a_promise_about_every_rival_and_size_names_those_that_were_not_measured() {
    let bar = row(&report(), "less than through any rival");
    assert_eq!(bar.verdict(), "met where measured");
    assert_eq!(
        bar.gaps,
        ["iptables, nft", "IPVS", "nftables at 10,000", "10, 100, 1,000, 30,000 and 100,000 services"],
        "neither took part; nftables was given up; two sizes were asked for"
    );
    assert!(page(&report()).contains("; not measured here: iptables, nft; IPVS; nftables at 10,000; "));
    let own = row(&report(), "a datagram and its answer");
    assert_eq!((own.verdict(), own.gaps.len()), ("met where measured", 1), "{own:?}");
}

/// All sizes, and every rival at each of them up to 30,000.
fn whole() -> Report {
    let mut report = report();
    let one = report.sizes[0].clone();
    let all = |kind| {
        let like = if matches!(kind, Kind::Direct | Kind::Millrace) { kind } else { Kind::IptablesLegacy };
        Figures { kind, ..one.of(like).unwrap().clone() }
    };
    let kinds = Kind::ALL.into_iter().filter(|kind| kind.serves(Clients::Pods));
    let figures: Vec<Figures> = kinds.map(all).collect();
    report.sizes = SIZES.map(|services| Size { services, figures: figures.clone() }).to_vec();
    report
}

#[test]
fn a_promise_is_met_without_reserve_only_where_all_of_it_was_measured() {
    let mut report = whole();
    assert_eq!(row(&report, "less than through any rival").verdict(), "met");
    report.sizes[6].figures.retain(|figures| !figures.kind.is_rival());
    let bar = row(&report, "less than through any rival");
    assert_eq!((bar.verdict(), bar.gaps), ("met where measured", vec!["any rival at 100,000".to_owned()]));
    let nobody = Traffic { operation: Operation::Kept, ..report.sizes[2].figures[1].traffic[0].clone() };
    let ipvs = report.sizes[2].figures.iter_mut().find(|figures| figures.kind == Kind::Ipvs).unwrap();
    ipvs.traffic[0] = nobody;
    let gaps = row(&report, "less than through any rival").gaps;
    assert_eq!(gaps, ["any rival at 100,000", "IPVS at 100"], "one destination of three lacks a figure");
}

/// What was not measured does not hide what was.
#[test]
fn a_rival_that_is_faster_somewhere_breaks_the_promise_whatever_was_left_out() {
    let mut report = report();
    for figures in report.sizes[0].figures.iter_mut().filter(|figures| figures.kind == Kind::Nftables) {
        figures.traffic.iter_mut().for_each(|traffic| traffic.p50_ratio.median = 0.5);
    }
    assert_eq!(row(&report, "less than through any rival").verdict(), "**not met**");
}

#[test]
fn a_ratio_that_is_missing_says_why() {
    let mut report = report();
    let found = |report: &Report, words: &str| row(report, words).found;
    assert_eq!(
        found(&report, "50 times as fast as iptables, nft"),
        "**not measured**: this run was not asked for iptables, nft"
    );
    assert_eq!(found(&report, "3 times as fast as IPVS"), "**not measured**: this kernel does not have it");
    report.sizes.truncate(1);
    assert_eq!(
        found(&report, "50 times as fast as nftables"),
        "**not measured**: this run was not asked for 10,000 services"
    );
}

#[test]
fn a_rival_that_was_given_up_too_early_to_tell_keeps_its_promise_open() {
    let mut report = report();
    report.limit_seconds = 1.0;
    let bars = bars(&report);
    let bar = bars.iter().find(|bar| bar.promise.contains("50 times as fast as nftables")).unwrap();
    assert_eq!((bar.found.split(';').next(), bar.met), (Some("more than 12 times: given up after 120 s"), None));
}

#[test]
fn a_ratio_that_is_close_to_its_promise_says_on_which_side() {
    let mut report = report();
    let large = report.sizes.iter_mut().find(|size| size.services == 10_000).unwrap();
    let own = large.of(Kind::Millrace).unwrap().programming.unwrap().median;
    let rival = large.figures.iter_mut().find(|figures| figures.kind == Kind::IptablesLegacy).unwrap();
    rival.programming.as_mut().unwrap().median = own * 49.9;
    let bar = row(&report, "50 times as fast as iptables, legacy");
    assert_eq!((bar.found.split(';').next(), bar.met), (Some("49.90 times"), Some(false)));
}

#[test]
fn a_change_of_a_rival_that_was_given_up_is_bounded_by_one_among_fewer_services() {
    let mut report = whole();
    let change = |report: &mut Report, services, kind, median| {
        let size = report.sizes.iter_mut().find(|size| size.services == services).unwrap();
        let figures = size.figures.iter_mut().find(|figures| figures.kind == kind).unwrap();
        figures.change = Some(Spread { median, min: median, max: median });
    };
    change(&mut report, 10_000, Kind::Millrace, 0.5);
    for (services, took) in [(100, 90.0), (1000, 100.0)] {
        change(&mut report, services, Kind::IptablesNft, took);
    }
    let large = report.sizes.iter_mut().find(|size| size.services == 10_000).unwrap();
    let given_up = Figures { given_up: true, ..Figures::skipped(Kind::IptablesNft, "given up".to_owned()) };
    large.figures.retain(|figures| figures.kind != Kind::IptablesNft);
    large.figures.push(given_up);
    let bar = row(&report, "100 times as fast as iptables, nft");
    assert_eq!(bar.found, "200 times, of what it took among 1,000: no less among more");
    assert_eq!((bar.verdict(), bar.gaps), ("met where measured", vec!["iptables, nft at 10,000".to_owned()]));
    change(&mut report, 1000, Kind::IptablesNft, 20.0);
    assert_eq!(row(&report, "100 times as fast as iptables, nft").met, None, "40 times tells nothing");
}

#[test]
fn what_was_not_measured_is_named_wherever_it_would_stand() {
    let page = page(&report());
    assert!(
        page.contains("10, 100, 1,000, 30,000 and 100,000 services, which are NOT MEASURED here: this run was not")
    );
    let why = Kind::MillraceXdpNative.why_not(Clients::Pods).unwrap();
    assert!(page.contains(&format!("**millrace, XDP native: NOT MEASURED, {why}.**")), "{page}");
    assert!(page.contains("**IPVS: NOT MEASURED, this kernel does not have it.**"), "{page}");
    let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| nftables")).collect();
    // One size was measured, the other given up; each table says so. The last column is the larger size.
    let silent = rows.iter().filter(|row| !row.contains("given up after 120 s")).count();
    assert!(!rows.is_empty() && silent == 0, "{rows:#?}");
}

/// Whoever calls, a page without the table says why there is none.
#[test]
fn a_page_without_churn_says_so() {
    for clients in [Clients::Pods, Clients::Outside, Clients::Through] {
        let mut report = report();
        report.clients = clients;
        assert!(clients != Clients::Pods || !page(&report).contains("- Churn, which is NOT MEASURED here"));
        report.sizes.iter_mut().flat_map(|size| &mut size.figures).for_each(|figures| figures.churn = None);
        assert!(page(&report).contains("- Churn, which is NOT MEASURED here"), "{clients:?}");
    }
}

#[test]
fn a_contestant_that_cannot_serve_these_clients_stands_on_the_page_with_the_reason() {
    let mut report = report();
    let why = Kind::MillraceTc.why_not(Clients::Outside).unwrap();
    report.clients = Clients::Outside;
    report.participants.push(Participant { kind: Kind::MillraceTc, version: None, absent: Some(why.to_owned()) });
    let page = page(&report);
    assert_eq!(page.matches(&format!("**millrace, tc: NOT MEASURED, {why}.**")).count(), 1, "{page}");
}

#[test]
fn a_figure_of_one_time_alone_says_so() {
    let mut report = report();
    let cells = |report: &Report| {
        let page = page(report);
        let (_, after) = page.split_once("### Programming").unwrap();
        let row = after.lines().find(|line| line.starts_with("| iptables, legacy |")).unwrap();
        row.matches(" once").count()
    };
    let slow = report.sizes[1].figures.iter_mut().find(|figures| figures.kind == Kind::IptablesLegacy).unwrap();
    slow.programming = Some(Spread { median: 6.0, min: 6.0, max: 6.0 });
    assert_eq!(cells(&report), 1, "6 s at 10,000; the figures do not say how often");
    for figures in report.sizes.iter_mut().flat_map(|size| &mut size.figures) {
        figures.programmed = 3;
    }
    assert_eq!(cells(&report), 0);
    report.sizes[0].figures.iter_mut().for_each(|figures| figures.programmed = 1);
    assert_eq!(cells(&report), 1);
}

#[test]
fn every_table_of_traffic_has_the_first_service_and_slow_requests_and_datagrams_have_tables_of_their_own() {
    let page = page(&report());
    for heading in [
        "Connections",
        "Slow connections",
        "Requests on new connections",
        "Requests on new connections: the slow ones",
        "Requests on a connection that stays",
        "UDP",
        "UDP: the slow ones",
        "Throughput",
        "Processor time",
    ] {
        let (_, after) = page.split_once(&format!("### {heading}\n")).unwrap();
        let table = after.split("### ").next().unwrap();
        for destination in ["first", "random", "last", "endpoint"] {
            assert!(table.contains(&format!("| {destination} ")), "{heading} lacks {destination}");
        }
    }
}

/// Two measures of memory stand in one table.
#[test]
fn what_is_counted_as_kernel_memory_is_said() {
    let mut report = report();
    assert!(page(&report).contains("without its programs, for a rival what a memory cgroup"));
    for figures in report.sizes.iter_mut().flat_map(|size| &mut size.figures) {
        figures.memory.programs = figures.kind.is_millrace().then_some(0.3);
    }
    let page = page(&report);
    assert!(page.contains("its maps and programs take, for a rival what a memory cgroup"), "{page}");
    assert!(page.contains("kernel, of it programs"), "{page}");
}

/// Figures of an earlier version have no floods: no heading and no plot without them.
#[test]
fn a_run_that_counted_no_packets_says_nothing_of_them() {
    let mut report = report();
    assert!(page(&report).contains("nobody else lost any"));
    report.sizes.iter_mut().flat_map(|size| &mut size.figures).for_each(|figures| figures.floods.clear());
    assert!(!page(&report).contains("Packets per second") && !page(&report).contains("packets.svg"));
    assert_eq!(plots(&report).unwrap().len(), 3);
}

/// Pages are light or dark: a plot must bring no background of its own and neither black nor white.
#[test]
fn plots_have_a_line_for_each_contestant_and_no_background() {
    let plots = plots(&report()).unwrap();
    assert_eq!(plots.len(), 4);
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
    let bounds = ["--sizes 1,10000", "--churn 0"];
    report.machine.guest =
        Some(Guest { emulated: true, host_load: [1.0, 3.0], bounds: bounds.map(str::to_owned).to_vec() });
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
    assert!(page.contains("`--sizes 1,10000 --churn 0`") && page.contains("the run was bounded in time"), "{page}");
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
