//! Who takes part in a run, and who was asked for and does not. Pure.

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::{cluster::Clients, contestants::Kind, report::Participant};

#[derive(Debug)]
pub(super) struct Entrants {
    /// The direct path first.
    pub(super) kinds: Vec<Kind>,
    /// Asked for by name, with the reason why they are not measured.
    pub(super) left_out: Vec<(Kind, &'static str)>,
}

impl Entrants {
    /// Of those that are asked for; all, if none is.
    ///
    /// # Errors
    /// Some are asked for, and none of them serves these clients.
    pub(super) fn of(asked: &[Kind], clients: Clients) -> Result<Self> {
        let is_asked = |kind: &Kind| asked.is_empty() || asked.contains(kind);
        let kinds = Kind::ALL
            .into_iter()
            .filter(|kind| *kind == Kind::Direct || (is_asked(kind) && kind.serves(clients)))
            .collect();
        let named = Kind::ALL.into_iter().filter(|kind| asked.contains(kind));
        let left_out: Vec<_> = named.filter_map(|kind| Some((kind, kind.why_not(clients)?))).collect();
        if !asked.is_empty() && asked.iter().all(|kind| !kind.serves(clients)) {
            let each = left_out.iter().map(|(kind, why)| format!("{}: {why}", argument(*kind)));
            bail!("nobody to measure: {}", each.collect::<Vec<_>>().join("; "));
        }
        Ok(Self { kinds, left_out })
    }

    /// For the page.
    pub(super) fn absent(&self) -> Vec<Participant> {
        let absent =
            |(kind, why): &(Kind, &str)| Participant { kind: *kind, version: None, absent: Some((*why).to_owned()) };
        self.left_out.iter().map(absent).collect()
    }
}

/// As the command line names it.
fn argument(kind: Kind) -> String {
    kind.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_asked_for_and_cannot_serve_these_clients_is_left_out_by_name() {
        let asked = [Kind::Millrace, Kind::MillraceXdpNative, Kind::Nftables];
        let entrants = Entrants::of(&asked, Clients::Pods).unwrap();
        assert_eq!(entrants.kinds, [Kind::Direct, Kind::Millrace, Kind::Nftables]);
        let absent = entrants.absent();
        assert_eq!(absent.len(), 1);
        assert_eq!(absent[0].kind, Kind::MillraceXdpNative);
        assert!(absent[0].absent.as_ref().unwrap().contains("--clients through"), "{absent:?}");
    }

    #[test]
    fn nobody_is_left_out_where_nobody_is_asked_for() {
        for clients in [Clients::Pods, Clients::Outside, Clients::Through] {
            let entrants = Entrants::of(&[], clients).unwrap();
            assert!(entrants.left_out.is_empty());
            assert!(entrants.kinds.iter().all(|kind| kind.serves(clients)) && entrants.kinds.contains(&Kind::Ipvs));
        }
    }

    #[test]
    fn nobody_left_is_an_error_that_says_what_to_ask_for() {
        let error = Entrants::of(&[Kind::MillraceXdpNative], Clients::Outside).unwrap_err().to_string();
        assert!(error.contains("millrace-xdp-native") && error.contains("--clients through"), "{error}");
        assert!(Entrants::of(&[Kind::Direct], Clients::Outside).is_ok(), "the direct path alone can be measured");
    }
}
