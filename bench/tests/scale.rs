//! The life of a small cluster, measured for real: every event takes effect in the kernel's maps.

use millrace_bench::scale::{Options, run, write};

#[test]
fn every_event_of_a_small_clusters_life_takes_effect() {
    let out = tempfile::tempdir().unwrap();
    let options = Options { nodes: 30, speeds: vec![1, 50], seconds: 1, events: 100, out: out.path().to_owned() };
    let figures = run(&options).unwrap();
    let nodes: Vec<u32> = figures.curve.iter().map(|point| point.size.nodes).collect();
    assert_eq!(nodes, [3, 3, 30]);
    assert_eq!((figures.wide.size.services, figures.wide.pods), (30, 1500));
    assert!(figures.curve.iter().all(|point| point.one_by_one.events == 100), "{:?}", figures.curve);
    let [(1, slow), (50, fast)] = &figures.speeds[..] else { panic!("{:?}", figures.speeds) };
    // A pod that is not ready yet changes nothing; each of the others does.
    assert!(figures.curve.iter().all(|point| point.one_by_one.written >= 50), "{:?}", figures.curve);
    for zone in [&figures.zone_fails, &figures.zone_returns] {
        assert!(zone.written >= zone.events, "{zone:?}");
    }
    // Ten times as many at least, whatever the random moments were.
    assert!(slow.events > 0 && fast.events > 10 * slow.events, "{} and {}", slow.events, fast.events);
    assert!(figures.zone_fails.events > 0);
    assert_eq!(figures.zone_fails.events, figures.zone_returns.events);
    write(&figures, &options).unwrap();
    let page = std::fs::read_to_string(out.path().join("benchmarks-scale.md")).unwrap();
    assert!(page.contains("with what a small cluster keeps in caches") && page.contains("1 x its own speed"), "{page}");
    assert!(page.contains("## What these figures cannot show"), "{page}");
    let plot = std::fs::read_to_string(out.path().join("benchmarks/scale.svg")).unwrap();
    assert!(plot.contains("event to map, p99"), "{plot}");
    assert!(out.path().join("benchmarks/scale.json").exists());
}
