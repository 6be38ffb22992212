//! Services change while packets are under way: no packet may ever see half a change, or another service's backend.

mod planner;
mod readers;

use std::{
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd},
    ptr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use aya::maps::{Map, MapData};
use millrace_common::{
    address::{Port, addr4, addr6, protocol},
    backend::Slot,
    frontend::FrontendKind,
    service::SetWord,
    verdict::Verdict,
};
use millrace_tests::test_run::Action;

use crate::rig::{Cast, Rig, casts};

/// Bytes of an array map's element: rounded up to 8.
const STRIDE_V4: usize = 16;
const STRIDE_V6: usize = 32;
const RECORD: usize = 32;
/// Backends of each service, and blocks that they are written to in turn: many, for a grace period lasts as long as thousands
/// of changes, and a mistake of the writer is there to be seen for a nanosecond of each.
const COUNT: u32 = 5;
const BLOCKS: u32 = 20_000;
const SLOTS: u32 = 1 << 17;

/// A map's memory.
struct Memory {
    start: *mut u8,
    bytes: usize,
}

// SAFETY: raw memory shared with the kernel; every access below is a volatile or atomic one.
unsafe impl Send for Memory {}

impl Memory {
    fn of(rig: &Rig, name: &str, entries: usize, stride: usize) -> Self {
        let Map::Array(map) = rig.map(name) else { panic!("{name} is no array") };
        let bytes = (entries * stride).next_multiple_of(4096);
        let fd = MapData::fd(map).as_fd().as_raw_fd();
        // SAFETY: a new mapping of a map that was created as mmapable; the address is the kernel's to choose.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0) };
        assert_ne!(start, libc::MAP_FAILED, "mmap of {name}: {}", std::io::Error::last_os_error());
        Self { start: start.cast(), bytes }
    }

    fn write<T>(&self, offset: usize, value: T) {
        assert!(offset + size_of::<T>() <= self.bytes);
        // SAFETY: within the mapping, and aligned as the map's elements are.
        unsafe { self.start.add(offset).cast::<T>().write_volatile(value) }
    }

    fn publish(&self, offset: usize, word: u64) {
        assert!(offset + 8 <= self.bytes);
        // SAFETY: within the mapping, aligned to 8, and shared with the kernel, which reads it atomically.
        unsafe { AtomicU64::from_ptr(self.start.add(offset).cast()) }.store(word, Ordering::Release);
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: mapped in `of`, and nothing refers to it any more.
        unsafe { libc::munmap(self.start.cast(), self.bytes) };
    }
}

/// Waits until every program that runs now has ended.
fn grace() {
    // SAFETY: MEMBARRIER_CMD_GLOBAL (1) takes no pointers; the kernel waits for a full RCU grace period.
    assert_eq!(unsafe { libc::syscall(libc::SYS_membarrier, 1, 0, 0) }, 0, "membarrier");
}

/// Backend number `i` of the service record `owner`.
fn backend(cast: &Cast, owner: u32, i: u32) -> SocketAddr {
    let mut address = cast.one;
    address.set_port(u16::try_from(owner * 1000 + i).unwrap());
    address
}

/// Writes blocks all over the slots and flips two services in turn, as the agent does: slots first, then the word,
/// and no block is written again before a grace period.
fn flip(cast: &Cast, records: &Memory, slots: &Memory, stop: &AtomicBool) -> u64 {
    let mut flips = 0u64;
    while !stop.load(Ordering::Relaxed) {
        for block in 0..BLOCKS {
            let owner = 1 + u32::try_from(flips % 2).unwrap();
            let generation = u16::try_from(flips % u64::from(SetWord::GENERATIONS)).unwrap();
            let base = block * COUNT;
            for i in 0..COUNT {
                write_slot(cast, slots, base + i, owner, generation, i);
            }
            let word = SetWord::block(base, COUNT, generation);
            records.publish(owner as usize * RECORD, word.0);
            flips += 1;
            // Twice in a turn, so that there is one between the last use of any block and the next writing.
            if block % (BLOCKS / 2) == 0 {
                grace();
            }
        }
    }
    flips
}

fn write_slot(cast: &Cast, slots: &Memory, at: u32, owner: u32, generation: u16, i: u32) {
    let address = backend(cast, owner, i);
    let (port, backend) = (Port::new(address.port()), owner * 10 + i);
    match address {
        SocketAddr::V4(a) => {
            let slot = Slot { address: addr4(*a.ip()), port, generation, backend, owner };
            slots.write(at as usize * STRIDE_V4, slot);
        }
        SocketAddr::V6(a) => {
            let slot = Slot { address: addr6(*a.ip()), port, generation, backend, owner };
            slots.write(at as usize * STRIDE_V6, slot);
        }
    }
}

/// Millions of new connections to two services, by several threads, while both services change thousands of times a
/// second: each connection reaches a backend of its own service, and no program ever reads a slot that is not its service's.
#[test]
fn a_flipped_service_is_never_seen_torn() {
    let mut rig = Rig::with_slots(SLOTS);
    let mut total = 0;
    for cast in casts() {
        for (owner, frontend) in [(1, cast.service), (2, cast.vip)] {
            rig.frontend(owner, frontend, protocol::TCP, FrontendKind::ClusterIp);
            for i in 0..COUNT {
                rig.serving(owner * 10 + i, 1, true);
            }
        }
        let records = Memory::of(&rig, "SERVICES", 64, RECORD);
        let (name, stride) = if cast.client.is_ipv4() { ("SLOTS_V4", STRIDE_V4) } else { ("SLOTS_V6", STRIDE_V6) };
        let slots = Memory::of(&rig, name, SLOTS as usize, stride);
        // Both services have a block before the first packet comes; it is not one of those that are written in turn.
        for owner in [1, 2] {
            let base = BLOCKS * COUNT + owner * COUNT;
            for i in 0..COUNT {
                write_slot(&cast, &slots, base + i, owner, 7, i);
            }
            records.publish(owner as usize * RECORD, SetWord::block(base, COUNT, 7).0);
        }
        let stop = AtomicBool::new(false);
        let (reads, flips) = thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let (records, slots) = (records, slots);
                flip(&cast, &records, &slots, &stop)
            });
            let reads = read(&rig, &cast, &stop);
            (reads, writer.join().unwrap())
        });
        println!("{reads} connections, {flips} changes");
        assert!(reads >= readers::floor(), "{reads} connections");
        assert!(flips > u64::from(reads / 4), "{reads} connections, {flips} changes: no race");
        total += u64::from(reads);
        assert_eq!(rig.count(Verdict::PacketNewFlow), total, "{:?}", rig.counts());
        assert_eq!(rig.count(Verdict::BugForeignSlot), 0, "{:?}", rig.counts());
        assert_eq!(rig.count(Verdict::BugBeyondMap), 0, "{:?}", rig.counts());
    }
}

/// Opens connections to both services: how many.
fn read(rig: &Rig, cast: &Cast, stop: &AtomicBool) -> u32 {
    let frontends = [cast.service, cast.vip];
    readers::read(
        rig.program("mr_from_pod"),
        cast.client,
        &frontends,
        stop,
        || true,
        |place, connection, out| {
            assert_eq!(out.action, Action::Next);
            let (owner, reached) = (1 + u32::try_from(place).unwrap(), connection.destination(out));
            let own = (0..COUNT).any(|i| backend(cast, owner, i) == reached);
            assert!(own, "a connection to {} went to {reached}", connection.to);
        },
    )
}
