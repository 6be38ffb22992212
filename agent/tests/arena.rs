//! The arena's promises, for any sequence of requests: no two blocks overlap, nothing leaks, nothing is handed out
//! again before its grace period, and only what is really too fragmented or full is refused.

use millrace_agent::diff::{Arena, Block, Ticket};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Request {
    Allocate(u32),
    /// The nth live block, if there is one.
    Free(usize),
    PutBack(usize),
    Grace,
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        5 => prop_oneof![1u32..=4, 5u32..=40, 100u32..=300].prop_map(Request::Allocate),
        3 => any::<usize>().prop_map(Request::Free),
        1 => any::<usize>().prop_map(Request::PutBack),
        1 => Just(Request::Grace),
    ]
}

fn overlap(one: Block, two: Block) -> bool {
    one.base < two.base + two.len() && two.base < one.base + one.len()
}

struct Model {
    arena: Arena,
    live: Vec<(Block, u32)>,
    waiting: Vec<Block>,
    ticket: Ticket,
}

impl Model {
    fn new(size: u32) -> Self {
        Self { arena: Arena::new(size), live: Vec::new(), waiting: Vec::new(), ticket: Ticket::default() }
    }

    fn handle(&mut self, request: &Request) -> Result<(), TestCaseError> {
        match *request {
            Request::Allocate(count) => {
                let longest = self.arena.occupancy().longest;
                let Some(block) = self.arena.allocate(count) else {
                    prop_assert!(count.next_power_of_two() > longest, "{count} slots refused, {longest} are free");
                    return Ok(());
                };
                prop_assert!(block.len() >= count && block.len() < 2 * count, "at most half of a block is wasted");
                prop_assert!(block.base + block.len() <= self.arena.occupancy().size);
                for other in self.live.iter().map(|(block, _)| block).chain(&self.waiting) {
                    prop_assert!(!overlap(block, *other), "{block:?} overlaps {other:?}");
                }
                self.live.push((block, count));
            }
            Request::Free(at) if !self.live.is_empty() => {
                let (block, _) = self.live.swap_remove(at % self.live.len());
                self.arena.free(block, self.ticket);
                self.waiting.push(block);
            }
            Request::PutBack(at) if !self.live.is_empty() => {
                let (block, _) = self.live.swap_remove(at % self.live.len());
                self.arena.put_back(block);
            }
            Request::Free(_) | Request::PutBack(_) => {}
            Request::Grace => self.grace(),
        }
        let used: u32 = self.live.iter().map(|(block, _)| block.len()).sum();
        let now = self.arena.occupancy();
        prop_assert_eq!(now.waiting, self.waiting.iter().map(|block| block.len()).sum::<u32>());
        prop_assert_eq!(now.free + now.waiting + used, now.size, "every slot is free, waiting or in use");
        Ok(())
    }

    fn grace(&mut self) {
        self.arena.reclaim(self.ticket);
        self.ticket = self.ticket.next();
        self.waiting.clear();
    }
}

proptest! {
    #[test]
    fn blocks_never_overlap_and_never_leak(
        requests in prop::collection::vec(request(), 1..300),
        size in prop_oneof![Just(1024u32), 1u32..3000],
    ) {
        let mut model = Model::new(size);
        let whole = model.arena.occupancy();
        for request in &requests {
            model.handle(request)?;
        }
        while let Some((block, _)) = model.live.pop() {
            model.arena.free(block, model.ticket);
        }
        model.grace();
        prop_assert_eq!(model.arena.occupancy(), whole, "all neighbours have merged again");
    }

    #[test]
    fn a_restart_takes_exactly_the_blocks_that_are_in_use(
        requests in prop::collection::vec(request(), 1..200),
        order in any::<prop::sample::Index>(),
    ) {
        let mut model = Model::new(2048);
        for request in &requests {
            model.handle(request)?;
        }
        let mut live = model.live.clone();
        if !live.is_empty() {
            let middle = order.index(live.len());
            live.rotate_left(middle);
        }
        let mut restored = Arena::new(2048);
        for &(block, count) in &live {
            prop_assert_eq!(restored.reserve(block.base, count), Some(block));
            prop_assert_eq!(restored.reserve(block.base, count), None, "a block is taken once");
        }
        model.grace();
        prop_assert_eq!(restored.occupancy(), model.arena.occupancy());
    }

    #[test]
    fn nothing_that_the_arena_could_not_have_made_is_taken(base in 0u32..5000, count in 0u32..5000) {
        let mut arena = Arena::new(1024);
        if let Some(block) = arena.reserve(base, count) {
            prop_assert!(block.base == base && base + block.len() <= 1024 && block.len() >= count && count > 0);
        }
    }
}

#[test]
fn a_block_waits_for_a_grace_period_that_began_after_it_was_freed() {
    let mut arena = Arena::new(8);
    let early = Ticket::default();
    let late = early.next();
    let block = arena.allocate(8);
    assert_eq!(block, Some(Block { base: 0, order: 3 }));
    arena.free(Block { base: 0, order: 3 }, late);
    assert!(!arena.reclaim(early), "that grace period began before");
    assert_eq!(arena.allocate(1), None);
    assert!(arena.reclaim(late));
    assert!(arena.allocate(1).is_some());
}

#[test]
fn no_request_is_too_large_to_be_refused() {
    let mut arena = Arena::new(16);
    for count in [0, 17, u32::MAX] {
        assert_eq!(arena.allocate(count), None);
        assert_eq!(arena.reserve(0, count), None);
    }
}
