//! What a promise is about and a run did not measure, in words. Pure.

use std::collections::BTreeSet;

use crate::{
    cluster::SIZES,
    contestants::Kind,
    report::{Report, Size, markdown::thousands},
};

/// Sizes that are measured unless others are asked for, as far as this run has them not.
pub(in crate::report) fn missing_sizes(report: &Report) -> Vec<u32> {
    SIZES.into_iter().filter(|size| report.sizes.iter().all(|of| of.services != *size)).collect()
}

/// Of a promise about every size.
pub(super) fn of_sizes(report: &Report) -> Option<String> {
    let missing = missing_sizes(report);
    (!missing.is_empty()).then(|| format!("{} services", listed(&missing)))
}

/// Of a promise about every rival: each that has no figure at all, then the sizes at which nobody has one, then what each
/// lacks besides.
pub(super) fn of_rivals(report: &Report, has: impl Fn(&Size, Kind) -> bool) -> Vec<String> {
    let lacking = |kind: Kind| -> BTreeSet<u32> {
        report.sizes.iter().filter(|size| !has(size, kind)).map(|size| size.services).collect()
    };
    let rivals = Kind::ALL.into_iter().filter(|kind| kind.is_rival()).map(|kind| (kind, lacking(kind)));
    let (absent, present): (Vec<_>, Vec<_>) = rivals.partition(|(_, lacking)| lacking.len() == report.sizes.len());
    let common = present.iter().map(|(_, lacking)| lacking.clone()).reduce(|a, b| &a & &b).unwrap_or_default();
    let sizes = |of: &BTreeSet<u32>| listed(&of.iter().copied().collect::<Vec<_>>());
    let mut gaps: Vec<String> = absent.iter().map(|(kind, _)| kind.name().to_owned()).collect();
    if !common.is_empty() {
        gaps.push(format!("any rival at {}", sizes(&common)));
    }
    for (kind, lacking) in &present {
        let more = lacking - &common;
        if !more.is_empty() {
            gaps.push(format!("{} at {}", kind.name(), sizes(&more)));
        }
    }
    gaps
}

/// `10, 100 and 30,000`
pub(in crate::report) fn listed(numbers: &[u32]) -> String {
    let words: Vec<String> = numbers.iter().copied().map(thousands).collect();
    match &words[..] {
        [before @ .., last] if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        words => words.concat(),
    }
}
