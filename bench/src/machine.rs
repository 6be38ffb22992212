//! What the machine is, and how busy it is with other things.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};

/// Unknown facts are empty: no figure depends on them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub time: String,
    pub kernel: String,
    pub distribution: String,
    pub cpu: String,
    pub cpus: usize,
    pub memory_gib: f64,
    /// Another machine's guest.
    pub virtual_machine: bool,
    /// Load average of a minute before the first figure and after the last; these include the bench's own processes.
    pub load: [f64; 2],
    /// It was booted for the run, for the sake of its kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<Guest>,
}

/// What only the host of a machine knows of it, and adds to the figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guest {
    /// Its processors are software: figures are ratios, and nothing else.
    pub emulated: bool,
    /// The host's load average of a minute, before the boot and after the end.
    pub host_load: [f64; 2],
    /// Options that nobody asked for and that bounded the run, each with its value.
    #[serde(default)]
    pub bounds: Vec<String>,
}

impl Machine {
    /// As it is now.
    pub fn look() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once([':', '=']).map(|(_, value)| value.trim().trim_matches('"').to_owned()).unwrap_or_default()
        };
        let kib: f64 = field(&read("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0.0);
        Self {
            time: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            kernel: read("/proc/sys/kernel/osrelease"),
            distribution: field(&read("/etc/os-release"), "PRETTY_NAME"),
            cpu: field(&cpuinfo, "model name"),
            cpus: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            memory_gib: kib / f64::from(1 << 20),
            virtual_machine: field(&cpuinfo, "flags").split(' ').any(|flag| flag == "hypervisor"),
            load: [load(); 2],
            guest: None,
        }
    }

    /// For a page.
    #[must_use]
    pub fn sentence(&self) -> String {
        format!(
            "Machine: {} ({} processors{}), kernel {}. Load average {:.1} at the beginning and {:.1} at the end.",
            self.cpu,
            self.cpus,
            if self.virtual_machine { ", virtual" } else { "" },
            self.kernel,
            self.load[0],
            self.load[1],
        )
    }

    /// The figures are made.
    pub fn finish(&mut self) {
        self.load[1] = load();
    }
}

fn load() -> f64 {
    read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}
