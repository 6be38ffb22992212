//! The stages that decide are pure: no runtime, no kernel, no API server, no clock, no files. What they need of the
//! world is an argument.
#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What no line of a pure stage may name, and why it would be there.
const FORBIDDEN: [(&str, &str); 13] = [
    ("tokio", "a runtime"),
    ("aya", "the kernel's maps"),
    ("libc", "the kernel"),
    ("nix", "the kernel"),
    ("kube", "the API server"),
    ("tracing", "a log: a decision returns a value"),
    ("std::fs", "files"),
    ("std::net::TcpStream", "the network"),
    ("std::time::Instant", "a clock"),
    ("SystemTime", "a clock"),
    ("std::thread", "threads"),
    ("std::process", "other programs"),
    ("std::env", "the environment"),
];

/// Stages and files that decide, below `src`.
const PURE: [&str; 7] =
    ["model", "lb", "diff", "migrate/anchor.rs", "migrate/iptables.rs", "migrate/ipvs.rs", "migrate/nftables.rs"];

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The code of a file: no comments, for these may speak of what is forbidden.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default().to_owned());
    (1..).zip(lines).collect()
}

fn names(line: &str, word: &str) -> bool {
    // `kube-proxy` in a text, or a text `kube`, is not the crate.
    let is_word = |c: char| c.is_alphanumeric() || "_-\"".contains(c);
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(is_word) && !line[at + word.len()..].starts_with(is_word))
}

fn stage(name: &str) -> Vec<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(name);
    let files = if path.is_file() { vec![path] } else { sources(&path) };
    assert!(!files.is_empty(), "src/{name} has no sources: nothing was tested");
    files
}

#[test]
fn what_decides_touches_nothing_but_its_arguments() {
    for path in PURE.into_iter().flat_map(stage) {
        for (number, line) in code(&path) {
            for (word, what) in FORBIDDEN {
                assert!(!names(&line, word), "{}:{number} names {word} ({what}): {line}", path.display());
            }
        }
    }
}

#[test]
fn only_from_resource_sees_the_types_of_kubernetes() {
    for path in ["lb", "diff"].into_iter().flat_map(stage) {
        for (number, line) in code(&path) {
            assert!(!names(&line, "k8s_openapi"), "{}:{number}: {line}", path.display());
        }
    }
    for path in stage("model") {
        let text = code(&path);
        let sees = text.iter().any(|(_, line)| names(line, "k8s_openapi"));
        let reads = text.iter().any(|(_, line)| line.contains("fn from_resource"));
        assert!(!sees || reads, "{} names k8s_openapi without a from_resource", path.display());
    }
}

#[test]
fn the_pure_stages_have_no_unsafe_code() {
    for path in PURE.into_iter().flat_map(stage) {
        for (number, line) in code(&path) {
            assert!(!names(&line, "unsafe"), "{}:{number}: {line}", path.display());
        }
    }
}
