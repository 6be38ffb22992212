//! The page that a run becomes: what a reader is told, and that nothing is left out in silence.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{fs, path::Path};

use millrace_bench::{
    contestants::Kind,
    report::{Report, bars::bars, markdown::page, plots::plots, read},
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
    assert_eq!(met("less than through any rival"), Some(true));
    assert_eq!(met("50 times as fast as iptables, legacy"), Some(true), "75 times");
    assert_eq!(met("50 times as fast as nftables"), Some(true), "120 s and more over 0.08 s");
    assert_eq!(met("3 times as fast as IPVS"), None, "it was not measured");
    assert_eq!(met("among 10,000 services: 100 times as fast as iptables, nft"), None, "it did not take part");
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
