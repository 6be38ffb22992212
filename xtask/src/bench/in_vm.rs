//! The benchmarks in a virtual machine with Debian's kernel: all contestants, IPVS too. The page and the figures say that
//! they come from there, and take no page's place that was measured here.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::asked::Asked;
use crate::{
    command::{program, run},
    demo::release,
    kernel, rivals, setup, workspace,
};

/// As the benchmark's own.
const OUT: &str = "target/bench";

/// Boots the machine, runs the benchmark there, and writes its page here. `bounds` are options among those asked for that
/// nobody typed, each with its value.
pub(super) fn measure(asked: &Asked<'_>, mut bounds: Vec<String>) -> Result<()> {
    setup::to_emulate()?;
    let bench = release("millrace-bench")?;
    let newest = if asked.value("--tools").is_none() { rivals::newest() } else { None };
    let tools = asked.value("--tools").map(Path::new).or(newest.as_deref());
    let (arguments, added) = asked.in_machine();
    if !added.is_empty() {
        println!("bench: an emulated machine is slow; unless you ask for more: {}", added.join(" "));
    }
    bounds.extend(added);
    let before = load();
    let measured = kernel::measure(&bench, &arguments.join(" "), tools)?;
    let figures = with_guest(&measured.figures, measured.emulated, [before, load()], &bounds)?;
    let file = workspace::target().join("vm/bench/services.json");
    fs::write(&file, figures).with_context(|| format!("cannot write {}", file.display()))?;
    run(program(&bench).arg("report").arg(&file).arg("--out").arg(asked.value("--out").unwrap_or(OUT)))
}

/// The figures, with what only this machine knows of theirs.
fn with_guest(figures: &str, emulated: bool, host_load: [f64; 2], bounds: &[String]) -> Result<String> {
    let mut report: Value =
        serde_json::from_str(figures).context("the figures of the virtual machine are unreadable")?;
    let machine = report.get_mut("machine").and_then(Value::as_object_mut).context("the figures name no machine")?;
    machine.insert("guest".to_owned(), json!({ "emulated": emulated, "host_load": host_load, "bounds": bounds }));
    Ok(report.to_string())
}

/// Of a minute.
fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_say_that_they_come_from_a_machine_that_was_booted_for_them() {
        let bounds = ["--churn 0".to_owned()];
        let figures = with_guest(r#"{"machine":{"kernel":"6.12"},"sizes":[]}"#, true, [1.5, 2.0], &bounds);
        let report: Value = serde_json::from_str(&figures.expect("figures")).expect("JSON");
        let guest = json!({"emulated": true, "host_load": [1.5, 2.0], "bounds": ["--churn 0"]});
        assert_eq!(report["machine"], json!({"kernel": "6.12", "guest": guest}));
    }

    #[test]
    fn half_a_file_is_no_figures() {
        assert!(with_guest(r#"{"machine":{"ker"#, true, [0.0; 2], &[]).is_err());
    }
}
