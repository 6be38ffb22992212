//! What is known of the cluster: Services, their slices, the service ranges.

/// Applied to by changes, asked by `lb`.
#[derive(Debug, Default)]
pub struct Index {}
