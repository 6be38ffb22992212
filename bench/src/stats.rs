//! Medians, percentiles and their spread over repeated runs. Pure.

/// One figure over several runs.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Spread {
    #[serde(serialize_with = "rounded")]
    pub median: f64,
    #[serde(serialize_with = "rounded")]
    pub min: f64,
    #[serde(serialize_with = "rounded")]
    pub max: f64,
}

/// Five digits: no figure is known better, and a report has thousands of them.
fn rounded<S: serde::Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(format!("{value:.4e}").parse().unwrap_or(*value))
}

/// The value below which `percent` of the samples lie (nearest rank); 0 for no samples.
pub fn percentile(samples: &[u64], percent: f64) -> u64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

/// Median, smallest and largest of one figure per run; zeros for no runs.
pub fn spread(runs: &[f64]) -> Spread {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
    // Between the two middle ones, where there are two.
    let (low, high) = (at(sorted.len().saturating_sub(1) / 2), at(sorted.len() / 2));
    Spread { median: f64::midpoint(low, high), min: at(0), max: at(sorted.len().saturating_sub(1)) }
}

#[cfg(test)]
mod tests {
    use super::{percentile, spread};

    #[test]
    fn a_percentile_is_a_sample_at_the_nearest_rank() {
        let samples: Vec<u64> = (1..=100).rev().collect();
        assert_eq!((percentile(&samples, 50.0), percentile(&samples, 99.0)), (50, 99));
        assert_eq!(percentile(&[7], 99.0), 7);
        assert_eq!(percentile(&[], 50.0), 0);
    }

    #[test]
    fn a_spread_names_the_middle_run_and_the_extremes() {
        let spread = spread(&[1.02, 0.99, 1.00]);
        assert_eq!((spread.min, spread.median, spread.max), (0.99, 1.00, 1.02));
        assert_eq!(super::spread(&[1.0, 3.0]).median, 2.0);
    }
}
