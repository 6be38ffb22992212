//! Hands out contiguous blocks of slots.
//!
//! A buddy allocator: a block's length is rounded up to a power of two, and its base is a multiple of that length. So
//! a block wastes less than half of itself, neighbours merge again when they are freed, and a block found in the maps
//! after a restart can be taken out of the free ones by its base and count alone.

use std::collections::BTreeSet;

use super::grace::{Graves, Ticket};

/// Lengths from 1 to 2^31.
const ORDERS: usize = 32;

/// `1 << order` slots from `base`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    pub base: u32,
    pub order: u8,
}

impl Block {
    /// The block that holds `count` slots from `base`; `None` where the arena could not have made one.
    #[must_use]
    pub fn holding(base: u32, count: u32) -> Option<Self> {
        let order = order_for(count)?;
        base.is_multiple_of(1 << order).then_some(Self { base, order })
    }

    #[must_use]
    pub const fn len(self) -> u32 {
        1 << self.order
    }

    #[must_use]
    pub const fn is_empty(self) -> bool {
        false
    }

    /// The other half of the block that this one was split from.
    const fn buddy(self) -> Self {
        Self { base: self.base ^ (1 << self.order), order: self.order }
    }

    const fn parent(self) -> Self {
        Self { base: self.base & !(1 << self.order), order: self.order + 1 }
    }
}

fn order_for(count: u32) -> Option<u8> {
    if count == 0 { None } else { Some(count.checked_next_power_of_two()?.trailing_zeros() as u8) }
}

/// How full an arena is, in slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupancy {
    pub size: u32,
    /// Free for the next block.
    pub free: u32,
    /// Freed, waiting for their grace period.
    pub waiting: u32,
    /// The longest block that could be handed out now: far below `free`, the arena is fragmented.
    pub longest: u32,
}

/// The slots of one family.
#[derive(Debug)]
pub struct Arena {
    size: u32,
    free: [BTreeSet<u32>; ORDERS],
    graves: Graves<Block>,
}

impl Arena {
    #[must_use]
    pub fn new(size: u32) -> Self {
        let mut arena = Self { size, free: Default::default(), graves: Graves::default() };
        let mut base = 0;
        // The largest aligned blocks that fit, for a size that is no power of two.
        while base < size {
            let fits = (size - base).ilog2();
            let order = if base == 0 { fits } else { fits.min(base.trailing_zeros()) };
            arena.free[order as usize].insert(base);
            base += 1 << order;
        }
        arena
    }

    /// A block of at least `count` slots, at the lowest base of the shortest free length; `None`: no room.
    pub fn allocate(&mut self, count: u32) -> Option<Block> {
        let order = order_for(count)?;
        let found = (order..ORDERS as u8).find(|&found| !self.free[usize::from(found)].is_empty())?;
        let base = self.free[usize::from(found)].pop_first()?;
        Some(self.split(Block { base, order: found }, Block { base, order }))
    }

    /// Takes a block that is in use already, after a restart. `None`: part of it is beyond the arena or taken.
    pub fn reserve(&mut self, base: u32, count: u32) -> Option<Block> {
        let block = Block::holding(base, count)?;
        for order in block.order..ORDERS as u8 {
            let base = block.base & !((1u32 << order) - 1);
            if self.free[usize::from(order)].remove(&base) {
                return Some(self.split(Block { base, order }, block));
            }
        }
        None
    }

    /// Frees a block that programs may be reading: it is handed out again only after [`Self::reclaim`].
    pub fn free(&mut self, block: Block, ticket: Ticket) {
        self.graves.bury(ticket, block);
    }

    /// The grace period for `ticket` is over. True when that freed something.
    pub fn reclaim(&mut self, ticket: Ticket) -> bool {
        let mut freed = false;
        while let Some(block) = self.graves.exhume(ticket) {
            self.put_back(block);
            freed = true;
        }
        freed
    }

    /// Frees a block that no program has seen.
    pub fn put_back(&mut self, mut block: Block) {
        while usize::from(block.order) < ORDERS - 1 && self.free[usize::from(block.order)].remove(&block.buddy().base) {
            block = block.parent();
        }
        self.free[usize::from(block.order)].insert(block.base);
    }

    #[must_use]
    pub fn has_waiting(&self) -> bool {
        !self.graves.is_empty()
    }

    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        let free = (0u32..).zip(&self.free);
        Occupancy {
            size: self.size,
            free: free.clone().map(|(order, bases)| (bases.len() as u32) << order).sum(),
            waiting: self.graves.iter().map(|block| block.len()).sum(),
            longest: free.filter(|(_, bases)| !bases.is_empty()).map(|(order, _)| 1 << order).last().unwrap_or(0),
        }
    }

    /// Splits `whole`, which is no longer among the free ones, until `part` of it is left; frees the rest.
    fn split(&mut self, whole: Block, part: Block) -> Block {
        for order in part.order..whole.order {
            let half = Block { base: part.base & !((1u32 << order) - 1), order };
            self.free[usize::from(order)].insert(half.buddy().base);
        }
        part
    }
}
