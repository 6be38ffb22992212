//! Reads what `iptables-save` prints and plans what takes kube-proxy's chains, and its jumps to them, out. Pure.
//!
//! The prefix KUBE- is not kube-proxy's alone: the kubelet and network policy agents use it too. So the chains are named
//! one by one (pkg/proxy/iptables/proxier.go and pkg/proxy/ipvs/proxier.go of Kubernetes, also those of old versions).

use std::collections::BTreeSet;

use super::{Kind, Plan, Step};
use crate::lb::Family;

const CHAINS: [&str; 13] = [
    "KUBE-SERVICES",
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-NODEPORTS",
    "KUBE-POSTROUTING",
    "KUBE-MARK-MASQ",
    FORWARD,
    "KUBE-PROXY-FIREWALL",
    "KUBE-PROXY-CANARY",
    // Of the IPVS mode.
    "KUBE-NODE-PORT",
    "KUBE-LOAD-BALANCER",
    "KUBE-SOURCE-RANGES-FIREWALL",
    "KUBE-IPVS-FILTER",
    "KUBE-IPVS-OUT-FILTER",
];
const FORWARD: &str = "KUBE-FORWARD";

/// Chains of one service or endpoint: the prefix, then a hash.
const SERVICE_CHAINS: [&str; 6] = ["KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-XLB-", "KUBE-FW-", "KUBE-SEP-"];

fn is_kube_proxys(chain: &str) -> bool {
    CHAINS.contains(&chain) || SERVICE_CHAINS.iter().any(|prefix| chain.starts_with(prefix))
}

/// For `iptables-restore`: what is not named stays, and another's lock is waited for (seconds).
pub(super) fn restore_arguments() -> Vec<String> {
    ["-w", "5", "--noflush"].map(str::to_owned).into()
}

/// One table of the dump.
#[derive(Default)]
struct Table<'a> {
    name: &'a str,
    chains: Vec<Chain<'a>>,
    rules: Vec<Rule<'a>>,
}

struct Chain<'a> {
    name: &'a str,
    /// `-`: not a built-in chain.
    policy: &'a str,
}

struct Rule<'a> {
    /// As it is written behind `-A `.
    text: &'a str,
    words: Vec<&'a str>,
}

/// What takes kube-proxy's leftovers out of `saved`, all tables that `TOOL-save` printed: a step for each table that has
/// any. `tool` is the name of a back end's programs without `-save` or `-restore`.
#[must_use]
pub fn plan(tool: &str, family: Family, saved: &str) -> Plan {
    let mut plan = Plan::default();
    for table in tables(saved) {
        table.plan(tool, family, &mut plan);
    }
    plan
}

fn tables(saved: &str) -> Vec<Table<'_>> {
    let mut tables: Vec<Table<'_>> = Vec::new();
    for line in saved.lines() {
        if let Some(name) = line.strip_prefix('*') {
            tables.push(Table { name, ..Table::default() });
        }
        let Some(table) = tables.last_mut() else { continue };
        if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split(' ');
            let (name, policy) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            table.chains.push(Chain { name, policy });
        } else if let Some(text) = line.strip_prefix("-A ") {
            table.rules.push(Rule { text, words: words(text) });
        }
    }
    tables
}

impl<'a> Table<'a> {
    fn plan(&self, tool: &str, family: Family, plan: &mut Plan) {
        let name = self.name;
        let kept = self.kept(tool, &mut plan.notes);
        let chains = || self.chains.iter().map(|chain| chain.name).filter(|chain| is_kube_proxys(chain));
        let gone: Vec<_> = chains().filter(|chain| !kept.contains(chain)).collect();
        let holds_forward = self.drops_forwarded();
        let unlinked =
            |rule: &&Rule<'_>| self.is_kube_proxys_jump(rule) && !(holds_forward && rule.target() == Some(FORWARD));
        let jumps: Vec<_> = self.rules.iter().filter(unlinked).map(|rule| rule.text).collect();
        if gone.is_empty() && jumps.is_empty() {
            return;
        }
        // Declaring a chain empties it, so no rule within refers to another when they are deleted.
        let flushes = gone.iter().map(|chain| format!(":{chain} - [0:0]\n"));
        let unlinks = jumps.iter().map(|rule| format!("-D {rule}\n"));
        let deletes = gone.iter().map(|chain| format!("-X {chain}\n"));
        let input = format!("*{name}\n{}COMMIT\n", flushes.chain(unlinks).chain(deletes).collect::<String>());
        let objects = jumps.iter().map(|rule| format!("{tool} {name}: rule {rule}"));
        plan.steps.push(Step {
            kind: Kind::Remove,
            objects: objects.chain(gone.iter().map(|chain| format!("{tool} {name}: chain {chain}"))).collect(),
            family: Some(family),
            program: format!("{tool}-restore"),
            arguments: restore_arguments(),
            input,
        });
    }

    /// Chains of kube-proxy that must stay, with all that they lead to: others' rules use them.
    fn kept(&self, tool: &str, notes: &mut Vec<String>) -> BTreeSet<&'a str> {
        let mut waiting = Vec::new();
        for rule in self.rules.iter().filter(|rule| !is_kube_proxys(rule.chain()) && !self.is_kube_proxys_jump(rule)) {
            if let Some(target) = rule.target().filter(|target| is_kube_proxys(target)) {
                notes.push(format!(
                    "{tool} {}: {target} stays, for a rule that is not kube-proxy's uses it: {}",
                    self.name, rule.text
                ));
                waiting.push(target);
            }
        }
        if self.drops_forwarded() {
            notes.push(format!(
                "{tool} {}: {FORWARD} stays: the policy of FORWARD is DROP, and only that chain lets the packets of \
                 translated connections pass. Once they have ended, delete it and the rule that jumps to it",
                self.name
            ));
            waiting.push(FORWARD);
        }
        let mut kept = BTreeSet::new();
        while let Some(chain) = waiting.pop() {
            if kept.insert(chain) {
                let within = self.rules.iter().filter(|rule| rule.chain() == chain);
                waiting.extend(within.filter_map(Rule::target).filter(|target| is_kube_proxys(target)));
            }
        }
        kept
    }

    fn drops_forwarded(&self) -> bool {
        let has = |name, policy| self.chains.iter().any(|chain| chain.name == name && chain.policy == policy);
        self.name == "filter" && has("FORWARD", "DROP") && has(FORWARD, "-")
    }

    /// Whether kube-proxy put this jump into a built-in chain: its comment, perhaps new connections only, nothing else.
    fn is_kube_proxys_jump(&self, rule: &Rule<'_>) -> bool {
        // The chains last: there are tens of thousands of them, and of rules.
        !is_kube_proxys(rule.chain())
            && rule.target().is_some_and(is_kube_proxys)
            && is_plain_jump(&rule.words[1..], false)
            && self.chains.iter().any(|chain| chain.name == rule.chain() && chain.policy != "-")
    }
}

impl<'a> Rule<'a> {
    fn chain(&self) -> &'a str {
        self.words.first().copied().unwrap_or_default()
    }

    /// The chain or the extension that it leads to.
    fn target(&self) -> Option<&'a str> {
        let mut words = self.words.iter().copied();
        while let Some(word) = words.next() {
            match word {
                "-j" | "-g" => return words.next(),
                // Its text may look like anything.
                "--comment" => drop(words.next()),
                _ => {}
            }
        }
        None
    }
}

fn is_plain_jump(words: &[&str], commented: bool) -> bool {
    match words {
        ["-m", "comment", "--comment", text, rest @ ..] => {
            text.trim_start_matches('"').starts_with("kube") && is_plain_jump(rest, true)
        }
        ["-m", "conntrack", "--ctstate", "NEW", rest @ ..] => is_plain_jump(rest, commented),
        ["-j", _] => commented,
        _ => false,
    }
}

/// Splits at spaces that are in no quotes; a backslash takes the next character's meaning away.
fn words(text: &str) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(|c: char| {
        let ends = c == ' ' && !quoted;
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })
    .filter(|word| !word.is_empty())
    .collect()
}
