//! From manifests to maps: each `golden/NAME.yaml` (or the files of `golden/NAME/`, applied one after another) must give
//! the maps that `golden/NAME.txt` shows, in whichever order its objects arrive, and leave nothing when they are gone.
//!
//! `MILLRACE_GOLDEN=write cargo test -p millrace-agent --test golden` writes the texts anew; read the difference before
//! committing it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends at what it did not expect")]

mod support;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use k8s_openapi::api::{core::v1 as core, discovery::v1 as discovery, networking::v1 as networking};
use millrace_agent::{
    datapath::MemoryTables,
    diff::{Sizes, dump},
    model::{EndpointSlice, Parsed, Service, ServiceCidr, ServiceKey, SliceKey},
    watch::Change,
};
use serde_json::Value;
use support::pipeline::Pipeline;

const SIZES: Sizes = Sizes { services: 64, frontends: 128, backends: 256, slots: 1024, source_ranges: 256 };

fn changes(path: &Path) -> Vec<Change> {
    let text = fs::read_to_string(path).unwrap();
    let documents = text.split("\n---").filter(|document| !document.trim().is_empty());
    documents.map(|document| change(path, serde_saphyr::from_str(document).unwrap())).collect()
}

fn change(path: &Path, object: Value) -> Change {
    let name = |field: &str| object["metadata"][field].as_str().unwrap_or("default").to_owned();
    let (namespace, name) = (name("namespace"), name("name"));
    match object["kind"].as_str().unwrap() {
        "Service" => {
            let resource: core::Service = serde_json::from_value(object).unwrap();
            let service = whole(path, Service::from_resource(&resource, None).unwrap());
            Change::Service(ServiceKey::new(&namespace, &name), service.map(Box::new))
        }
        "EndpointSlice" => {
            let resource: discovery::EndpointSlice = serde_json::from_value(object).unwrap();
            let slice = whole(path, EndpointSlice::from_resource(&resource, None).unwrap());
            Change::EndpointSlice(SliceKey::new(&namespace, &name), slice.map(Box::new))
        }
        "ServiceCIDR" => {
            let resource: networking::ServiceCIDR = serde_json::from_value(object).unwrap();
            let cidr = whole(path, Some(ServiceCidr::from_resource(&resource).unwrap()));
            Change::ServiceCidr(name.into(), cidr)
        }
        other => panic!("{}: unknown kind {other}", path.display()),
    }
}

fn whole<T>(path: &Path, parsed: Option<Parsed<T>>) -> Option<T> {
    parsed.map(|parsed| {
        assert_eq!(parsed.problems, [], "{}", path.display());
        parsed.value
    })
}

fn gone(change: &Change) -> Change {
    match change {
        Change::Service(key, _) => Change::Service(key.clone(), None),
        Change::EndpointSlice(key, _) => Change::EndpointSlice(key.clone(), None),
        Change::ServiceCidr(name, _) => Change::ServiceCidr(name.clone(), None),
        other => panic!("{other:?} has no object"),
    }
}

/// The text after each file. Each object is in the maps before the next arrives.
fn run(steps: &[PathBuf], backwards: bool) -> String {
    let mut pipeline = Pipeline::new(SIZES, MemoryTables::new(SIZES));
    let (mut text, mut seen) = (String::new(), Vec::new());
    for step in steps {
        let mut changes = changes(step);
        if backwards {
            changes.reverse();
        }
        seen.extend(changes.iter().map(gone));
        for change in changes {
            apply(&mut pipeline, change);
        }
        if steps.len() > 1 {
            writeln!(text, "# after {}", step.file_stem().unwrap().to_string_lossy()).unwrap();
        }
        text += &dump(&pipeline.tables.snapshot());
    }
    for change in seen {
        apply(&mut pipeline, change);
    }
    assert_eq!(dump(&pipeline.tables.snapshot()), "", "{steps:?} leaves something behind");
    text
}

fn apply(pipeline: &mut Pipeline<MemoryTables>, change: Change) {
    pipeline.apply(change);
    pipeline.settle();
    let ranges = pipeline.planner.plan_cidrs(&pipeline.index.cidrs()).plan;
    pipeline.write(&ranges);
}

fn listing(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn manifests_become_the_maps_that_the_texts_show() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut tested = 0;
    for path in listing(&directory) {
        let steps = if path.is_dir() { listing(&path) } else { vec![path.clone()] };
        if path.extension().is_some_and(|extension| extension == "txt") {
            continue;
        }
        let (forwards, backwards) = (run(&steps, false), run(&steps, true));
        assert_eq!(forwards, backwards, "{}: the order of arrival must not matter", path.display());
        let golden = path.with_extension("txt");
        if std::env::var_os("MILLRACE_GOLDEN").is_some_and(|value| value == "write") {
            fs::write(&golden, &forwards).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_else(|error| panic!("{}: {error}", golden.display()));
        assert_eq!(forwards, expected, "{}", golden.display());
        tested += 1;
    }
    assert!(tested > 0, "{} is empty: nothing was tested", directory.display());
}
