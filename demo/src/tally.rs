//! What the shoppers saw, added up: pure.

use std::collections::BTreeMap;

use crate::shopper::{Count, Report};

/// Reports of the shoppers, by the zone that they ask from.
pub(crate) type Reports = BTreeMap<String, Report>;

/// One service over a stretch of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) answered: BTreeMap<String, u64>,
    pub(crate) in_zone: u64,
    pub(crate) refused: u64,
    pub(crate) failed: u64,
    pub(crate) problem: Option<String>,
}

impl Row {
    /// Answers in all.
    pub(crate) fn total(&self) -> u64 {
        self.answered.values().sum()
    }
}

/// All services between two moments; `zones` says where each pod is.
pub(crate) fn rows(before: &Reports, now: &Reports, zones: &BTreeMap<String, String>) -> BTreeMap<String, Row> {
    let mut rows = BTreeMap::<String, Row>::new();
    for (zone, report) in now {
        for (service, count) in report {
            let earlier = before.get(zone).and_then(|report| report.get(service)).cloned().unwrap_or_default();
            let row = rows.entry(service.clone()).or_default();
            for (pod, answers) in &count.answered {
                let new = answers.saturating_sub(earlier.answered.get(pod).copied().unwrap_or(0));
                if new > 0 {
                    *row.answered.entry(pod.clone()).or_default() += new;
                    row.in_zone += if zones.get(pod) == Some(zone) { new } else { 0 };
                }
            }
            row.refused += count.refused.saturating_sub(earlier.refused);
            let failed = count.failed.saturating_sub(earlier.failed);
            row.failed += failed;
            if failed > 0 {
                row.problem = row.problem.take().or_else(|| count.problem.clone());
            }
        }
    }
    rows
}

/// Answers that a pod has given so far, whoever asked.
pub(crate) fn answers_of(pod: &str, now: &Reports) -> u64 {
    now.values().flat_map(BTreeMap::values).filter_map(|count: &Count| count.answered.get(pod)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(answers: &[(&str, u64)], failed: u64) -> Report {
        let answered = answers.iter().map(|(pod, n)| ((*pod).to_owned(), *n)).collect();
        Report::from([("cart".to_owned(), Count { answered, failed, ..Count::default() })])
    }

    #[test]
    fn a_row_counts_what_is_new_and_what_stayed_in_the_zone() {
        let zones = BTreeMap::from([("a1".to_owned(), "a".to_owned()), ("b1".to_owned(), "b".to_owned())]);
        let before = Reports::from([("a".to_owned(), report(&[("a1", 5)], 1))]);
        let now = Reports::from([
            ("a".to_owned(), report(&[("a1", 15), ("b1", 2)], 1)),
            ("b".to_owned(), report(&[("b1", 4)], 0)),
        ]);
        let row = &rows(&before, &now, &zones)["cart"];
        assert_eq!((row.total(), row.in_zone, row.failed), (16, 14, 0));
        assert_eq!(answers_of("b1", &now), 6);
    }
}
