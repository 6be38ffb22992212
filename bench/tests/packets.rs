//! A small run of `bench packets`, measured for real: every case comes to its end, and is on the page.

use millrace_bench::packets::{Case, Choice, Figures, Options, Place, Step, page, run, write};

fn of(figures: &Figures, case: Case, choice: Choice) -> Vec<f64> {
    let rows = figures.rows.iter().filter(|row| row.case == case && row.choice == choice);
    rows.map(|row| row.nanoseconds.median).collect()
}

#[test]
fn every_kind_of_packet_is_measured_at_every_size_in_both_families() {
    let out = tempfile::tempdir().unwrap();
    let sizes = vec![1, 20];
    let options = Options { sizes, rounds: 3, loads: 1, packets: 2000, only: None, out: out.path().to_owned() };
    let figures = run(&options).unwrap();
    for (xdp, v6) in [(false, false), (false, true), (true, false), (true, true)] {
        for (backends, steps) in [
            (Place::Elsewhere, &[Step::New, Step::Established, Step::Answer, Step::Nobody][..]),
            (Place::Here, &[Step::New, Step::Established]),
        ] {
            for &step in steps {
                for choice in [Choice::Hot, Choice::Random] {
                    let case = Case { xdp, v6, backends, step };
                    let found = of(&figures, case, choice);
                    assert!(found.len() == 2 && found.iter().all(|ns| *ns > 0.0), "{case:?}, {choice:?}: {found:?}");
                    assert!(page(&figures).contains(&case.title()), "{case:?}");
                }
            }
        }
        // To begin a flow is more than to know one: the flow was no known one.
        let elsewhere = |step| of(&figures, Case { xdp, v6, backends: Place::Elsewhere, step }, Choice::Hot);
        assert!(elsewhere(Step::New) > elsewhere(Step::Established));
    }
    assert!(page(&figures).contains("## What these figures cannot show"));
    write(&figures, &options).unwrap();
    let read: Figures =
        serde_json::from_str(&std::fs::read_to_string(out.path().join("benchmarks/packets.json")).unwrap()).unwrap();
    assert_eq!(read.rows.len(), figures.rows.len());
    for plot in ["packets-v4.svg", "packets-v6.svg"] {
        assert!(out.path().join("benchmarks").join(plot).exists(), "{plot}");
    }
}
