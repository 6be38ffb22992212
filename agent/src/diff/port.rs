//! What one service port takes: ids, blocks, words, name and frontends, as operations.
//!
//! The order keeps every state between two operations one that a program may see:
//! 1. the states of new backends, then new blocks: nothing points to them yet;
//! 2. the record's name, so that a restart finds whose it is;
//! 3. source ranges, before the attributes say that they guard, and those that are wanted no more after the rest;
//! 4. words that name endpoints, or say why there are none;
//! 5. the attributes, which choose between the words; then words that fall out of use;
//! 6. the states of backends that serve no more: no set holds them any longer.

use std::{net::SocketAddr, sync::Arc};

use millrace_common::{
    backend::BackendState,
    maglev,
    service::{NAME_BYTES, ServiceName, SetWord},
};

use super::{
    NoRoom, Op, SlotValue, Word,
    guard::guard,
    mirror::Mirror,
    record::{Member, Published},
};
use crate::{
    lb::{Family, PortName, Set, WantedPort, table},
    model::Algorithm,
};

/// What a port takes but for its frontends.
#[derive(Debug)]
pub(super) struct PortOps {
    pub ops: Vec<Op>,
    /// What of the port is left out.
    pub lacks: Option<NoRoom>,
}

/// Operations that bring the record `index` to `wanted`, without its frontends.
///
/// # Errors
/// No room; nothing is taken then.
pub(super) fn endpoint_ops(mirror: &mut Mirror, index: u32, wanted: &WantedPort) -> Result<PortOps, NoRoom> {
    let mut ops = Vec::new();
    match fill(mirror, index, wanted, &mut ops) {
        Ok(lacks) => Ok(PortOps { ops, lacks }),
        Err(no_room) => {
            give_back(mirror, &ops);
            Err(no_room)
        }
    }
}

fn fill(mirror: &mut Mirror, index: u32, wanted: &WantedPort, ops: &mut Vec<Op>) -> Result<Option<NoRoom>, NoRoom> {
    let (members, gone) = assign_ids(mirror, index, wanted, ops)?;
    let cluster = Target::of(&wanted.cluster, &members);
    let local = Target::of(&wanted.local, &members);
    let (cluster, local) = words(mirror, index, wanted, &cluster, &local, ops)?;
    if mirror.record(index).is_none_or(|record| !record.named) {
        ops.push(Op::StoreName { index, name: name_of(&wanted.name) });
    }
    let guard = guard(mirror, index, wanted);
    ops.extend(guard.inserts);
    let sets = [(Word::Cluster, cluster), (Word::Local, local)];
    let used = sets.iter().filter(|(_, value)| *value != SetWord::UNUSED.0);
    let unused = sets.iter().filter(|(_, value)| *value == SetWord::UNUSED.0);
    let attributes = [(Word::Attributes, wanted.attributes.0)];
    for &(word, value) in used.chain(&attributes).chain(unused) {
        if mirror.record(index).is_some_and(|record| record.word(word) != value) {
            ops.push(Op::StoreWord { index, word, value });
        }
    }
    ops.extend(gone.into_iter().map(|id| stop(mirror, id)));
    ops.extend(guard.deletes);
    Ok(guard.lacks)
}

/// Returns what operations that will not be carried out would have used.
pub(super) fn give_back(mirror: &mut Mirror, ops: &[Op]) {
    for op in ops {
        match op {
            Op::StoreBackend { id, state } if state.serving() => {
                mirror.loans.ids.retain(|loan| loan != id);
                mirror.backends.put_back(*id);
            }
            Op::WriteBlock { family, base, .. } => {
                if let Some((block, _)) = mirror.loans.blocks.remove(&(*family, *base)) {
                    mirror.arenas.of_mut(*family).put_back(block);
                }
            }
            Op::InsertRange { range, .. } => *mirror.loans.ranges.of_mut(Family::of(range.addr())) -= 1,
            _ => {}
        }
    }
}

/// Operations that leave the record without endpoints and without anything that leads to it.
pub(super) fn unlink_ops(mirror: &Mirror, index: u32) -> Vec<Op> {
    let Some(record) = mirror.record(index) else { return Vec::new() };
    let mut ops: Vec<Op> = (record.frontends.iter()).map(|&frontend| Op::DeleteFrontend { frontend }).collect();
    for word in [Word::Cluster, Word::Local] {
        // Flows that remember the record and choose anew are refused, as those of a service without endpoints.
        if SetWord(record.word(word)).count() > 0 {
            ops.push(Op::StoreWord { index, word, value: SetWord::REJECT.0 });
        }
    }
    ops.extend(record.members.iter().map(|id| stop(mirror, *id)));
    ops
}

/// Operations that make an unlinked record free.
pub(super) fn zero_ops(mirror: &Mirror, index: u32) -> Vec<Op> {
    let Some(record) = mirror.record(index) else { return Vec::new() };
    let words = [Word::Cluster, Word::Local, Word::Attributes].into_iter().filter(|word| record.word(*word) != 0);
    let mut ops: Vec<Op> = words.map(|word| Op::StoreWord { index, word, value: 0 }).collect();
    let ranges = mirror.ranges.get(&index).into_iter().flatten();
    ops.extend(ranges.map(|&range| Op::DeleteRange { index, range }));
    // Last: until then a restart finds the record and goes on.
    ops.push(Op::StoreName { index, name: Box::new(ServiceName([0; NAME_BYTES])) });
    ops
}

fn stop(mirror: &Mirror, id: u32) -> Op {
    Op::StoreBackend { id, state: BackendState::new(mirror.backends.state(id).epoch(), false) }
}

fn name_of(name: &PortName) -> Box<ServiceName> {
    let mut bytes = [0; NAME_BYTES];
    let text = name.to_string();
    // `model` refuses longer names than fit.
    let length = text.len().min(NAME_BYTES);
    bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
    Box::new(ServiceName(bytes))
}

/// The ids of all endpoints that have or need one, sorted by address, and the ids that go. An endpoint gets its id
/// when it first enters a set, and keeps it for as long as it serves, in a set or not.
fn assign_ids(
    mirror: &mut Mirror,
    index: u32,
    wanted: &WantedPort,
    ops: &mut Vec<Op>,
) -> Result<(Vec<Member>, Vec<u32>), NoRoom> {
    let (cluster, local) = (members_of(&wanted.cluster), members_of(&wanted.local));
    let is_wanted =
        |address: &SocketAddr| [&wanted.serving, cluster, local].iter().any(|set| set.binary_search(address).is_ok());
    let (mut members, gone): (Vec<Member>, Vec<Member>) =
        mirror.members(index).into_iter().partition(|member| is_wanted(&member.address));
    let known = members.len();
    members.reserve(wanted.serving.len().saturating_sub(known));
    ops.reserve(members.capacity() - known + 4);
    let only_local = local.iter().filter(|address| cluster.binary_search(address).is_err());
    for &address in cluster.iter().chain(only_local) {
        if find(&members[..known], &address).is_some() {
            continue;
        }
        let capacity = mirror.backends.capacity();
        let Some((id, state)) = mirror.backends.allocate(index, address) else {
            return Err(NoRoom::Full { map: "BACKENDS", capacity, flag: "--max-backends" });
        };
        mirror.loans.ids.push(id);
        ops.push(Op::StoreBackend { id, state });
        members.push(Member { address, id });
    }
    members.sort_unstable();
    if let Some(record) = mirror.record_mut(index) {
        // As many as there will be, and no room for more.
        record.members.reserve_exact(members.len() - known);
    }
    Ok((members, gone.into_iter().map(|member| member.id).collect()))
}

fn members_of(set: &Set) -> &[SocketAddr] {
    match set {
        Set::Endpoints(endpoints) => endpoints,
        Set::Unused | Set::Reject | Set::Drop => &[],
    }
}

fn find(members: &[Member], address: &SocketAddr) -> Option<u32> {
    members.binary_search_by_key(address, |member| member.address).ok().map(|at| members[at].id)
}

/// What a word should say.
enum Target {
    Word(SetWord),
    /// Sorted by backend id.
    Block(Vec<SlotValue>),
}

impl Target {
    fn of(set: &Set, members: &[Member]) -> Self {
        match set {
            Set::Unused => Self::Word(SetWord::UNUSED),
            Set::Reject => Self::Word(SetWord::REJECT),
            Set::Drop => Self::Word(SetWord::DROP),
            Set::Endpoints(endpoints) => {
                let slot = |&address| find(members, &address).map(|backend| SlotValue { address, backend });
                let mut slots: Vec<SlotValue> = Vec::with_capacity(endpoints.len());
                slots.extend(endpoints.iter().filter_map(slot));
                slots.sort_unstable_by_key(|slot| slot.backend);
                Self::Block(slots)
            }
        }
    }

    /// True when the block behind a word says so already. Its table, if it should have one, follows from its members.
    fn is(&self, published: &Published, algorithm: Algorithm) -> bool {
        let Self::Block(slots) = self else { return false };
        let ids = &published.ids;
        !ids.is_empty()
            && slots.iter().map(|slot| slot.backend).eq(ids.iter().copied())
            && SetWord(published.word).has_table() == has_table(algorithm, slots)
    }

    fn equals(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Block(one), Self::Block(two)) if one == two)
    }
}

/// The values of the cluster and of the local word. Equal sets share a block, and a set that has not changed keeps
/// the block that it has.
fn words(
    mirror: &mut Mirror,
    index: u32,
    wanted: &WantedPort,
    cluster: &Target,
    local: &Target,
    ops: &mut Vec<Op>,
) -> Result<(u64, u64), NoRoom> {
    let Some(record) = mirror.record(index) else { return Ok((0, 0)) };
    let algorithm = wanted.algorithm;
    let (old_cluster, old_local) = (record.cluster.clone(), record.local.clone());
    let cluster_word = match cluster {
        Target::Word(word) => word.0,
        Target::Block(_) if cluster.is(&old_cluster, algorithm) => old_cluster.word,
        // Safe to share: the cluster word is stored before the local word gives the block up.
        Target::Block(_) if cluster.is(&old_local, algorithm) => old_local.word,
        Target::Block(slots) => new_block(mirror, index, wanted, slots, ops)?,
    };
    let local_word = match local {
        Target::Word(word) => word.0,
        Target::Block(_) if local.equals(cluster) => cluster_word,
        Target::Block(_) if local.is(&old_local, algorithm) => old_local.word,
        Target::Block(slots) => new_block(mirror, index, wanted, slots, ops)?,
    };
    Ok((cluster_word, local_word))
}

fn new_block(
    mirror: &mut Mirror,
    index: u32,
    wanted: &WantedPort,
    slots: &[SlotValue],
    ops: &mut Vec<Op>,
) -> Result<u64, NoRoom> {
    let (count, limit) = (slots.len(), SetWord::MAX_COUNT);
    let length = u32::try_from(count).ok().filter(|length| *length <= limit);
    let length = length.ok_or(NoRoom::SetTooLarge { count, limit })?;
    let family = wanted.name.family;
    let table = if has_table(wanted.algorithm, slots) { table_of(slots) } else { Vec::new() };
    let behind = if table.is_empty() { 0 } else { maglev::slots(length) };
    let Some(block) = mirror.arenas.of_mut(family).allocate(length + behind) else {
        let map = match family {
            Family::V4 => "SLOTS_V4",
            Family::V6 => "SLOTS_V6",
        };
        return Err(NoRoom::Full { map, capacity: mirror.sizes.slots, flag: "--max-slots" });
    };
    let ids: Arc<[u32]> = slots.iter().map(|slot| slot.backend).collect();
    mirror.loans.blocks.insert((family, block.base), (block, ids));
    let generation = mirror.record_mut(index).map_or(0, |record| {
        record.generation = (record.generation + 1) % SetWord::GENERATIONS;
        record.generation
    });
    let word = SetWord::block(block.base, length, generation);
    let word = if table.is_empty() { word } else { word.with_table() };
    ops.push(Op::WriteBlock { family, base: block.base, generation, owner: index, slots: slots.to_vec(), table });
    Ok(word.0)
}

/// A set that is too large for a table is served without one.
fn has_table(algorithm: Algorithm, slots: &[SlotValue]) -> bool {
    algorithm == Algorithm::Maglev && slots.len() <= maglev::MAX_MEMBERS as usize
}

/// The table of a block, whose slots are sorted by id: an order that nodes do not share, unlike that of the addresses.
pub(super) fn table_of(slots: &[SlotValue]) -> Vec<u16> {
    let mut members: Vec<(SocketAddr, u16)> = slots.iter().map(|slot| slot.address).zip(0..=u16::MAX).collect();
    members.sort_unstable();
    let addresses: Vec<SocketAddr> = members.iter().map(|(address, _)| *address).collect();
    table(&addresses).into_iter().map(|member| members[usize::from(member)].1).collect()
}
