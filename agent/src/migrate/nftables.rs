//! kube-proxy's nftables mode keeps everything in one table per family. Pure.

use serde::Deserialize;

use super::{Error, Kind, Step};
use crate::lb::Family;

/// What `nft -j list tables` prints.
#[derive(Deserialize)]
struct Listing {
    nftables: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    table: Option<Table>,
}

#[derive(Deserialize)]
struct Table {
    family: String,
    name: String,
}

/// nft's name of the family.
pub(super) const fn ip(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

pub(super) fn plan(listed: &str) -> Result<Vec<Step>, Error> {
    let listing: Listing =
        serde_json::from_str(listed).map_err(|source| Error::Unreadable { program: "nft", source })?;
    let is_there = |family: Family| {
        let mut tables = listing.nftables.iter().filter_map(|item| item.table.as_ref());
        tables.any(|table| table.name == "kube-proxy" && table.family == ip(family))
    };
    Ok([Family::V4, Family::V6].into_iter().filter(|family| is_there(*family)).map(removal).collect())
}

fn removal(family: Family) -> Step {
    let table = format!("table {} kube-proxy", ip(family));
    Step {
        kind: Kind::Remove,
        objects: vec![format!("nftables: {table}")],
        family: Some(family),
        program: "nft".into(),
        arguments: vec!["-f".into(), "-".into()],
        input: format!("delete {table}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::plan;

    #[test]
    fn only_the_two_tables_of_kube_proxy_are_removed() {
        let listed = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}},
            {"table": {"family": "inet", "name": "kube-proxy", "handle": 1}},
            {"table": {"family": "ip6", "name": "kube-proxy", "handle": 2}},
            {"table": {"family": "ip", "name": "kube-proxy-mine", "handle": 3}}]}"#;
        let inputs: Vec<_> = plan(listed).unwrap().into_iter().map(|step| step.input).collect();
        assert_eq!(inputs, ["delete table ip6 kube-proxy\n"]);
        assert!(plan("{}").is_err(), "what cannot be read is not taken for an empty answer");
    }
}
