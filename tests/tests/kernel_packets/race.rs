//! Services change while packets are under way: no packet may ever see half a change, or another service's backend.

use std::{
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd},
    ptr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use aya::maps::{Map, MapData};
use millrace_common::{
    address::{Port, addr4, addr6, protocol},
    backend::Slot,
    frontend::FrontendKind,
    service::SetWord,
    verdict::Verdict,
};
use millrace_tests::{
    packet::{Flags, Packet},
    test_run::{self, Action},
};

use crate::rig::{Cast, Rig, casts};

/// Bytes of an array map's element: rounded up to 8.
const STRIDE_V4: usize = 16;
const STRIDE_V6: usize = 32;
const RECORD: usize = 32;
/// Backends of each service, and blocks that they are written to in turn.
const COUNT: u32 = 5;
const BLOCKS: u32 = 200;
/// New connections per family. Each reads a frontend, a record and a slot.
const READS: u32 = 1_000_000;
/// An emulated machine does not get so far, and need not.
const PATIENCE: Duration = Duration::from_secs(12);
const LEAST: u32 = 50_000;

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

/// Ends the writer, also when a connection went wrong.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
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

/// New connections to two services, a million of them, while both change tens of thousands of times a second: each
/// connection reaches a backend of its own service, and no program ever reads a slot that is not its service's.
#[test]
fn a_flipped_service_is_never_seen_torn() {
    for cast in casts() {
        let mut rig = Rig::new();
        for (owner, frontend) in [(1, cast.service), (2, cast.vip)] {
            rig.frontend(owner, frontend, protocol::TCP, FrontendKind::ClusterIp);
            for i in 0..COUNT {
                rig.serving(owner * 10 + i, 1, true);
            }
        }
        let records = Memory::of(&rig, "SERVICES", 64, RECORD);
        let (name, stride) = if cast.client.is_ipv4() { ("SLOTS_V4", STRIDE_V4) } else { ("SLOTS_V6", STRIDE_V6) };
        let slots = Memory::of(&rig, name, 1024, stride);
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
            let stop = Stop(&stop);
            let reads = read(&rig, &cast);
            drop(stop);
            (reads, writer.join().unwrap())
        });
        println!("{reads} connections, {flips} changes");
        assert!(reads >= LEAST && flips > u64::from(reads) / 100, "{reads} connections, {flips} changes: no race");
        assert_eq!(rig.count(Verdict::PacketNewFlow), u64::from(reads), "{:?}", rig.counts());
        assert_eq!(rig.count(Verdict::BugForeignSlot), 0, "{:?}", rig.counts());
        assert_eq!(rig.count(Verdict::BugBeyondMap), 0, "{:?}", rig.counts());
    }
}

/// Opens up to [`READS`] connections, every other one to the other service, and looks where each went: how many.
fn read(rig: &Rig, cast: &Cast) -> u32 {
    let begun = Instant::now();
    let program = rig.program("mr_from_pod");
    let mut frames = [cast.service, cast.vip].map(|to| Packet::tcp(cast.client, to, Flags::SYN).frame());
    let l3 = 14;
    let (source, destination, l4) =
        if cast.client.is_ipv4() { (l3 + 12, l3 + 16, l3 + 20) } else { (l3 + 8, l3 + 24, l3 + 40) };
    let width = destination - source;
    let IpBytes(expected) = cast.one.ip().into();
    for i in 0..READS {
        if i >= LEAST && i.is_multiple_of(1024) && begun.elapsed() > PATIENCE {
            return i;
        }
        let owner = i % 2;
        let frame = &mut frames[owner as usize];
        // A client of its own for each: the checksums do not matter here, they are carried along.
        frame[l4..l4 + 2].copy_from_slice(&i.to_be_bytes()[2..]);
        frame[source + width - 2..source + width].copy_from_slice(&i.to_be_bytes()[..2]);
        let out = test_run::run(program, frame, None).unwrap();
        assert_eq!(out.action, Action::Next);
        assert_eq!(out.frame[destination..destination + width], expected[..]);
        let port = u32::from(u16::from_be_bytes([out.frame[l4 + 2], out.frame[l4 + 3]]));
        let own = (owner + 1) * 1000..(owner + 1) * 1000 + COUNT;
        assert!(own.contains(&port), "connection {i} of service {} went to port {port}", owner + 1);
    }
    READS
}

struct IpBytes(Vec<u8>);

impl From<std::net::IpAddr> for IpBytes {
    fn from(ip: std::net::IpAddr) -> Self {
        Self(match ip {
            std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
            std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
        })
    }
}
