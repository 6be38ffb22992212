//! The tables of endpoint selection against the decision itself: the same runner as the harness's, without its kernel.
//! `MILLRACE_CONFORMANCE=DIR cargo test -p millrace-agent --test conformance` runs those of another directory.

#[path = "../../tests/tests/conformance/directory.rs"]
mod directory;
#[path = "../../tests/tests/conformance/selection.rs"]
mod selection;

use directory::Directory;

#[test]
fn every_node_chooses_the_endpoints_that_the_tables_say() {
    selection::decide(&selection::read(&Directory::named().unwrap()).unwrap()).unwrap();
}
