//! What the command line asks of the benchmarks, as far as it decides where they run. Pure.

/// Words after `cargo xtask bench`.
pub(super) struct Asked<'of>(pub(super) &'of [String]);

/// What an emulated machine can bear, where nothing else is asked for: larger sizes, and more of everything, take it a day.
/// Where a clock counts instructions, there is little noise for repetitions to take out. Churn is a matter of real time.
const BOUNDED: [(&str, &str); 7] = [
    ("--sizes", "1,10,100,1000,10000"),
    ("--runs", "2"),
    ("--rounds", "50"),
    ("--times", "1"),
    ("--changes", "10"),
    ("--churn", "0"),
    ("--limit", "30"),
];

/// The virtual machine's own, whatever is asked for: `--out` is this machine's, and so is the directory of tools.
const OURS: [&str; 2] = ["--out", "--tools"];

/// Of a part of millrace that there is not yet.
const ABSENT: &str = "cni";

const IN_VM: &str = "--in-vm";

/// Options of `services` that another benchmark has not, and what it has instead.
const REFUSED: [(&str, &str, &str); 5] = [
    ("packets", "--runs", "`--rounds` says how often it measures"),
    ("packets", "--rivals", "it measures millrace's programs alone, and netfilter has none that could be run alone"),
    ("scale", "--runs", "`--events` says how many events it times in each cluster"),
    ("scale", "--sizes", "`--nodes` is the size of its largest cluster; the others are a tenth and a hundredth of it"),
    ("scale", "--rivals", "it measures millrace's agent alone"),
];

impl Asked<'_> {
    pub(super) fn is_services(&self) -> bool {
        self.0.first().is_some_and(|word| word == "services") && !self.is_question()
    }

    fn is_question(&self) -> bool {
        self.0.iter().any(|word| word == "--help" || word == "-h")
    }

    /// No benchmark is named.
    pub(super) fn is_everything(&self) -> bool {
        self.0.first().is_none_or(|word| word.starts_with('-')) && !self.is_question()
    }

    pub(super) fn has_services(&self) -> bool {
        self.is_services() || self.is_everything()
    }

    /// As words for the benchmark of services, whether it is named or not.
    pub(super) fn services(&self) -> Vec<String> {
        let name = self.is_everything().then(|| "services".to_owned());
        name.into_iter().chain(self.0.iter().cloned()).collect()
    }

    /// Every benchmark, one after the other, where none is named.
    pub(super) fn parts(&self) -> Vec<Vec<String>> {
        let out: Vec<_> =
            self.value("--out").into_iter().flat_map(|out| ["--out".to_owned(), out.to_owned()]).collect();
        let clients = |who: &str| [self.services(), vec!["--clients".to_owned(), who.to_owned()]].concat();
        let rest = ["packets", "scale"].map(|name| [vec![name.to_owned()], out.clone()].concat());
        [self.services(), clients("outside"), clients("through")].into_iter().chain(rest).collect()
    }

    /// Why the benchmark that is named cannot run so: it is of a part that there is not yet, or does not take an option, which is
    /// one of `services`.
    pub(super) fn refused(&self) -> Option<String> {
        let named = self.0.first()?;
        if named == ABSENT {
            return Some(
                "millrace has no CNI plugin yet, so there is nothing to measure; `bench services`, `packets` and `scale` \
                 measure what there is"
                    .to_owned(),
            );
        }
        let (bench, option, instead) =
            REFUSED.iter().find(|(bench, option, _)| bench == named && self.words(option).next().is_some())?;
        Some(format!("{option} is an option of `bench services`, not of `bench {bench}`: {instead}"))
    }

    /// Options that only `services` takes, where all benchmarks are to run.
    pub(super) fn of_services_alone(&self) -> Vec<&str> {
        let names = self.0.iter().filter(|word| word.starts_with('-')).map(|word| name(word));
        names.filter(|name| *name != "--out").collect()
    }

    pub(super) fn in_vm(&self) -> bool {
        self.0.iter().any(|word| word == IN_VM)
    }

    /// Whether a rival takes part.
    pub(super) fn wants(&self, rival: &str) -> bool {
        self.value("--rivals").is_none_or(|rivals| rivals.split(',').any(|word| word == rival))
    }

    /// `--name VALUE` or `--name=VALUE`.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let of = |(i, word): (usize, &String)| match word.split_once('=') {
            Some((before, _)) if before == name => self.0[i].split_once('=').map(|(_, value)| value),
            None if word == name => self.0.get(i + 1).map(String::as_str),
            _ => None,
        };
        self.0.iter().enumerate().find_map(of)
    }

    /// The same with the sizes up to `largest`, and the sizes that are left out; nothing where there is none left.
    pub(super) fn up_to(&self, largest: u32) -> (Option<Vec<String>>, Vec<String>) {
        let Some(sizes) = self.value("--sizes") else { return (Some(self.0.to_vec()), Vec::new()) };
        // What is no number is for the benchmark to refuse.
        let (small, large): (Vec<_>, Vec<_>) =
            sizes.split(',').partition(|size| size.parse::<u32>().map_or(true, |size| size <= largest));
        let rest = self.without(&["--sizes"]);
        let bounded = rest.into_iter().chain(["--sizes".to_owned(), small.join(",")]).collect();
        ((!small.is_empty()).then_some(bounded), large.into_iter().map(str::to_owned).collect())
    }

    /// For the benchmark in the virtual machine: what is asked for there, and bounds for what is not; those it adds come
    /// second, each with its value.
    pub(super) fn in_machine(&self) -> (Vec<String>, Vec<String>) {
        let added: Vec<_> = BOUNDED.iter().filter(|(name, _)| self.value(name).is_none()).collect();
        let words = added.iter().flat_map(|(name, value)| [(*name).to_owned(), (*value).to_owned()]);
        let arguments = self.without(&OURS).into_iter().chain(words).collect();
        (arguments, added.iter().map(|(name, value)| format!("{name} {value}")).collect())
    }

    /// Those that are this option, with or without its value.
    fn words(&self, option: &str) -> impl Iterator<Item = &String> {
        self.0.iter().filter(move |word| name(word) == option)
    }

    /// All words but `--in-vm` and these options with their values.
    fn without(&self, options: &[&str]) -> Vec<String> {
        let mut words = self.0.iter();
        let mut kept = Vec::new();
        while let Some(word) = words.next() {
            let name = name(word);
            if options.contains(&name) {
                if name == word {
                    words.next();
                }
            } else if word != IN_VM {
                kept.push(word.clone());
            }
        }
        kept
    }
}

/// Of an option, whether its value is part of the word or follows.
fn name(word: &str) -> &str {
    word.split_once('=').map_or(word, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn ipvs_takes_part_unless_the_rivals_that_are_named_are_others() {
        for (line, wanted) in [
            ("services", true),
            ("services --rivals ipvs,nftables", true),
            ("services --rivals=ipvs", true),
            ("services --rivals nftables --sizes 1", false),
        ] {
            assert_eq!(Asked(&words(line)).wants("ipvs"), wanted, "{line}");
        }
    }

    #[test]
    fn who_asks_for_help_or_for_another_benchmark_is_not_sent_to_a_virtual_machine() {
        for line in ["services --help", "scale", "report services.json"] {
            assert!(!Asked(&words(line)).is_services(), "{line}");
        }
        assert!(Asked(&words("services --sizes 1")).is_services());
    }

    #[test]
    fn who_names_none_has_all_of_them() {
        assert!(Asked(&[]).is_everything() && !Asked(&words("--help")).is_everything());
        assert!(Asked(&words("--rivals ipvs")).has_services() && !Asked(&words("scale --out docs")).has_services());
        let parts = Asked(&words("--sizes 1 --out docs")).parts();
        let lines: Vec<String> = parts.iter().map(|part| part.join(" ")).collect();
        assert_eq!(
            lines,
            [
                "services --sizes 1 --out docs",
                "services --sizes 1 --out docs --clients outside",
                "services --sizes 1 --out docs --clients through",
                "packets --out docs",
                "scale --out docs",
            ]
        );
    }

    #[test]
    fn what_is_asked_for_goes_into_the_machine_and_what_is_not_is_bounded() {
        let asked = words("services --in-vm --out docs --sizes=1,10 --tools /t --runs 9 --limit 30");
        let (arguments, added) = Asked(&asked).in_machine();
        let bounds = ["--rounds 50", "--times 1", "--changes 10", "--churn 0"];
        assert_eq!(arguments, words(&format!("services --sizes=1,10 --runs 9 --limit 30 {}", bounds.join(" "))));
        assert_eq!(added, bounds);
    }

    #[test]
    fn an_option_of_services_is_refused_elsewhere_with_what_to_say_instead() {
        for (line, instead) in [
            ("packets --runs 3", "--rounds"),
            ("packets --rivals=nftables", "alone"),
            ("scale --out docs --sizes 1,10", "--nodes"),
            ("cni --runs 3", "no CNI plugin yet"),
        ] {
            let why = Asked(&words(line)).refused().expect(line);
            assert!(why.contains("bench services") && why.contains(instead), "{why}");
        }
        for line in
            ["packets --sizes 1,10 --rounds 3", "scale --nodes 30", "services --runs 3 --rivals ipvs", "--runs 3"]
        {
            assert_eq!(Asked(&words(line)).refused(), None, "{line}");
        }
        assert_eq!(Asked(&words("--runs 3 --sizes=1 --out docs")).of_services_alone(), ["--runs", "--sizes"]);
    }

    #[test]
    fn sizes_that_are_too_large_are_left_out_by_name() {
        let asked = words("services --sizes 1,10000,30000 --runs 2");
        let (bounded, left_out) = Asked(&asked).up_to(10_000);
        assert_eq!(bounded, Some(words("services --runs 2 --sizes 1,10000")));
        assert_eq!(left_out, ["30000"]);
        let asked = words("services --sizes=30000,100000");
        assert_eq!(Asked(&asked).up_to(10_000), (None, words("30000 100000")));
    }
}
