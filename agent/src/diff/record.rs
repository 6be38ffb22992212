//! One service record, as the maps hold it now.

use std::{net::SocketAddr, sync::Arc};

use millrace_common::service::SetWord;

use super::{Word, arena::Block, grace::Ticket};
use crate::lb::{Frontend, PortName};

/// A word of a record that names a set, and what is behind it.
#[derive(Clone, Debug, Default)]
pub(super) struct Published {
    pub word: u64,
    /// Backend ids of the block, ascending; empty when there is none.
    pub ids: Arc<[u32]>,
}

impl Published {
    /// The block of slots behind the word. None too when the word was found in the maps and does not make sense: then
    /// nothing of the arena belongs to it.
    pub(super) fn block(&self) -> Option<Block> {
        let word = SetWord(self.word);
        if self.ids.is_empty() { None } else { Block::holding(word.base(), word.slots()) }
    }
}

#[derive(Debug)]
pub(super) struct Record {
    /// `None`: found in the maps under a name that nobody can have.
    pub name: Option<PortName>,
    /// NAMES says so.
    pub named: bool,
    pub cluster: Published,
    pub local: Published,
    pub attributes: u64,
    /// Of the block written last.
    pub generation: u16,
    /// Backend ids whose state says that they serve; sorted by address only in `Mirror::members`.
    pub members: Vec<u32>,
    pub frontends: Vec<Frontend>,
    /// Unwanted: see [`Leaving`].
    pub leaving: Option<Leaving>,
}

/// An unwanted record goes in two steps, with a grace period between them: first nothing leads to it any more, then
/// its words and its name are zeroed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    /// Frontends, blocks or backends may be left.
    Unlinking,
    /// Nothing is left but the words and the name, which programs may be reading until this ticket's grace period.
    Unlinked(Ticket),
}

impl Record {
    pub(super) fn new(name: Option<PortName>) -> Self {
        Self {
            name,
            named: false,
            cluster: Published::default(),
            local: Published::default(),
            attributes: 0,
            generation: 0,
            members: Vec::new(),
            frontends: Vec::new(),
            leaving: None,
        }
    }

    pub(super) fn word(&self, word: Word) -> u64 {
        match word {
            Word::Cluster => self.cluster.word,
            Word::Local => self.local.word,
            Word::Attributes => self.attributes,
        }
    }

    /// True while something in the maps leads to the record, or it to something.
    pub(super) fn is_linked(&self) -> bool {
        let set = |published: &Published| SetWord(published.word).count() > 0;
        !self.frontends.is_empty() || !self.members.is_empty() || set(&self.cluster) || set(&self.local)
    }

    /// True when the maps know nothing of it.
    pub(super) fn is_unknown_to_maps(&self) -> bool {
        let words = self.cluster.word | self.local.word | self.attributes;
        !self.named && words == 0 && self.members.is_empty() && self.frontends.is_empty()
    }
}

/// An endpoint and its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Member {
    pub address: SocketAddr,
    pub id: u32,
}
