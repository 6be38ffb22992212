//! Every dependency comes from crates.io and under a licence that `deny.toml` allows. The same rules as cargo-deny's,
//! which is run instead where it is installed: it also knows security advisories.

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    command::{capture, cargo, exists, run},
    workspace,
};

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

const TARGETS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

pub(crate) fn check() -> Result<()> {
    if exists("cargo-deny") {
        return run(cargo("deny").args(["--locked", "check"]));
    }
    let policy = fs::read_to_string(workspace::root().join("deny.toml")).context("cannot read deny.toml")?;
    let mut metadata = cargo("metadata");
    metadata.args(["--format-version=1", "--locked", "--all-features"]);
    // As in deny.toml: what only other systems need is neither fetched nor judged.
    metadata.args(TARGETS.map(|target| format!("--filter-platform={target}")));
    let metadata = capture(&mut metadata)?;
    let problems = problems(&serde_json::from_str(&metadata)?, &allowed(&policy));
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    println!(
        "SKIPPED: security advisories, which need cargo-deny (`cargo install --locked cargo-deny`) and its database"
    );
    Ok(())
}

/// The strings of `allow = [ ... ]` under `[licenses]`.
fn allowed(policy: &str) -> BTreeSet<String> {
    let section = policy.split_once("[licenses]").map(|(_, rest)| rest).unwrap_or_default();
    let list = section.split_once("allow = [").and_then(|(_, rest)| rest.split_once(']')).map(|(list, _)| list);
    let entries = list.unwrap_or_default().lines().map(|line| line.split('#').next().unwrap_or_default());
    let quoted = entries.flat_map(|line| line.split(',').map(|entry| entry.trim().trim_matches('"').to_owned()));
    quoted.filter(|entry| !entry.is_empty()).collect()
}

fn problems(metadata: &Value, allowed: &BTreeSet<String>) -> Vec<String> {
    let mut problems = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let text = |field: &str| package[field].as_str().unwrap_or_default();
        let name = format!("{} {}", text("name"), text("version"));
        match package["source"].as_str() {
            // A path inside the workspace.
            None | Some(CRATES_IO) => {}
            Some(source) => problems.push(format!("{name} comes from {source}, not from crates.io")),
        }
        if !permits(text("license"), allowed) {
            problems.push(format!("{name} is under `{}`, which deny.toml does not allow", text("license")));
        }
    }
    problems
}

/// Does an SPDX expression leave a choice that is allowed? `/` is an old way to write OR.
fn permits(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    !words.is_empty() && any(&mut rest, allowed) && rest.is_empty()
}

fn any(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut result = all(words, allowed);
    while let ["OR", rest @ ..] = *words {
        *words = rest;
        result |= all(words, allowed);
    }
    result
}

fn all(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut result = one(words, allowed);
    while let ["AND", rest @ ..] = *words {
        *words = rest;
        result &= one(words, allowed);
    }
    result
}

fn one(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let result = any(words, allowed);
            if let [")", rest @ ..] = *words {
                *words = rest;
            }
            result
        }
        // An exception only adds permissions.
        [licence, "WITH", _, rest @ ..] | [licence, rest @ ..] => {
            *words = rest;
            allowed.contains(*licence)
        }
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permissive() -> BTreeSet<String> {
        ["MIT", "Apache-2.0", "Unicode-3.0"].map(str::to_owned).into()
    }

    #[test]
    fn one_allowed_choice_is_enough_and_every_joined_one_is_needed() {
        for fine in [
            "MIT",
            "GPL-3.0 OR MIT",
            "MIT/Apache-2.0",
            "(MIT OR GPL-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        ] {
            assert!(permits(fine, &permissive()), "{fine}");
        }
        for refused in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR Apache-2.0) AND OpenSSL"] {
            assert!(!permits(refused, &permissive()), "{refused}");
        }
    }

    #[test]
    fn the_list_in_the_policy_is_read_without_its_comments() {
        let policy = "[bans]\nmultiple-versions = \"warn\"\n[licenses]\nallow = [\n    \"MIT\", # the usual one\n    \"Apache-2.0\",\n]\n";
        assert_eq!(allowed(policy), ["MIT", "Apache-2.0"].map(str::to_owned).into());
    }

    #[test]
    fn a_crate_from_elsewhere_is_named() {
        let metadata = serde_json::json!({"packages": [
            {"name": "a", "version": "1.0.0", "license": "MIT", "source": "git+https://example.org/a"},
            {"name": "b", "version": "2.0.0", "license": "GPL-3.0", "source": CRATES_IO},
            {"name": "c", "version": "3.0.0", "license": "MIT", "source": null},
        ]});
        let problems = problems(&metadata, &permissive());
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("a 1.0.0 comes from"), "{problems:?}");
        assert!(problems[1].starts_with("b 2.0.0 is under `GPL-3.0`"), "{problems:?}");
    }
}
