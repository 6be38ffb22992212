//! Does a connection cost more than is recorded? Pure.

use super::count::{Count, DIRECT};

/// How much dearer a way may become, as a part of its recorded ratio to the direct one: three times what one and the same
/// program differs by from one build to the next.
const GROWTH: f64 = 0.02;

/// One sentence for each way whose ratio to the direct way of its own boot exceeds the recorded one, or that cannot be
/// compared.
pub(super) fn dearer(recorded: &[Count], counted: &[Count]) -> Vec<String> {
    let ways: Vec<_> = counted.iter().filter(|count| count.way != DIRECT).collect();
    if ways.is_empty() {
        return vec!["nothing was counted beside the direct way".to_owned()];
    }
    ways.into_iter().filter_map(|count| sentence(count, recorded, counted)).collect()
}

fn sentence(count: &Count, recorded: &[Count], counted: &[Count]) -> Option<String> {
    let name = format!("{}, {} services", count.way, count.services);
    let known = recorded.iter().find(|known| known.way == count.way && known.services == count.services);
    let ratios = known.map(|known| (known.ratio(recorded), count.ratio(counted)));
    match ratios {
        Some((Some(limit), Some(ratio))) if ratio <= limit * (1.0 + GROWTH) => None,
        Some((Some(limit), Some(ratio))) => Some(format!(
            "{name}: a connection costs {ratio:.3} of a direct one, and {limit:.3} is recorded: {:.1} % more",
            (ratio / limit - 1.0) * 100.0
        )),
        Some(_) => Some(format!("{name}: the direct way is missing")),
        None => Some(format!("{name}: not recorded")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(rows: &[(&str, u32, u64)]) -> Vec<Count> {
        rows.iter()
            .map(|&(way, services, instructions)| Count { way: way.to_owned(), services, instructions })
            .collect()
    }

    #[test]
    fn a_connection_may_cost_what_is_recorded_and_a_little_more_and_no_more_than_that() {
        let recorded = counts(&[("direct", 0, 100_000), ("millrace", 1, 110_000), ("nftables", 1, 124_000)]);
        let row = |instructions| counts(&[("direct", 0, 100_000), ("millrace", 1, instructions)]);
        for fine in [90_000, 110_000, 112_100] {
            assert_eq!(dearer(&recorded, &row(fine)), [""; 0], "{fine}");
        }
        let said = dearer(&recorded, &row(112_400));
        assert_eq!(
            said,
            ["millrace, 1 services: a connection costs 1.124 of a direct one, and 1.100 is recorded: 2.2 % more"]
        );
    }

    #[test]
    fn what_makes_every_way_dearer_is_not_millraces() {
        let recorded = counts(&[("direct", 0, 100_000), ("millrace", 1, 110_000)]);
        assert_eq!(dearer(&recorded, &counts(&[("direct", 0, 150_000), ("millrace", 1, 165_000)])), [""; 0]);
        assert_eq!(dearer(&recorded, &counts(&[("direct", 0, 80_000), ("millrace", 1, 110_000)])).len(), 1);
    }

    #[test]
    fn each_way_is_judged_by_its_own_record() {
        let recorded = counts(&[("direct", 0, 100_000), ("millrace", 1, 110_000), ("millrace", 1000, 110_000)]);
        let counted = counts(&[("direct", 0, 100_000), ("millrace", 1, 110_000), ("millrace", 1000, 120_000)]);
        let said = dearer(&recorded, &counted);
        assert!(said.len() == 1 && said[0].starts_with("millrace, 1000 services"), "{said:?}");
    }

    #[test]
    fn what_cannot_be_compared_does_not_pass() {
        let recorded = counts(&[("direct", 0, 100_000), ("millrace", 1, 110_000)]);
        for counted in [
            counts(&[]),
            counts(&[("direct", 0, 100_000)]),
            counts(&[("millrace", 1, 110_000)]),
            counts(&[("direct", 0, 100_000), ("millrace", 10, 110_000)]),
        ] {
            assert_eq!(dearer(&recorded, &counted).len(), 1, "{counted:?}");
        }
        assert_eq!(dearer(&[], &counts(&[("direct", 0, 1), ("millrace", 1, 1)])).len(), 1);
    }
}
