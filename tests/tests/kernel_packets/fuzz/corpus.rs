//! The frames that are sent: good ones and those that had the programs do something new, changed at random.

use std::collections::BTreeSet;

use crate::random::Random;

/// What a program did with a frame. The first frame for each is worth being changed further.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Behaviour {
    pub(super) action: String,
    pub(super) changed: bool,
    /// Verdicts by name.
    pub(super) counted: BTreeSet<&'static str>,
}

pub(super) struct Corpus {
    random: Random,
    kept: Vec<Vec<u8>>,
    behaviours: BTreeSet<Behaviour>,
}

const ETHERNET: usize = 14;
const LONGEST: usize = 1500;
/// Values at which lengths, offsets and types change their meaning.
const TURNING_POINTS: [u8; 12] = [0, 1, 4, 5, 6, 7, 17, 44, 58, 0x45, 0x60, 0xff];

impl Corpus {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: Random::seeded(seed), kept: Vec::new(), behaviours: BTreeSet::new() }
    }

    pub(super) fn behaviours(&self) -> usize {
        self.behaviours.len()
    }

    pub(super) fn learn(&mut self, behaviour: Behaviour, frame: Vec<u8>) {
        if self.behaviours.insert(behaviour) {
            self.kept.push(frame);
        }
    }

    pub(super) fn next(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let kept = !self.kept.is_empty() && self.random.one_in(2);
        let source = if kept { &self.kept } else { seeds };
        let mut frame = source[self.random.below(source.len())].clone();
        for _ in 0..self.random.below(5) {
            runnable(&mut frame);
            let other = &seeds[self.random.below(seeds.len())];
            change(&mut self.random, &mut frame, other);
        }
        runnable(&mut frame);
        if self.random.one_in(2) {
            mend(&mut frame);
        }
        frame
    }
}

fn change(random: &mut Random, frame: &mut Vec<u8>, other: &[u8]) {
    // The types in the Ethernet header are fair game, its addresses are nobody's business.
    let at = 12 + random.below(frame.len() - 12);
    // Most is decided in the first headers.
    let near = 12 + random.below(frame.len().min(ETHERNET + 68) - 12);
    match random.below(9) {
        0 => frame.truncate(at.max(ETHERNET)),
        1 => frame.extend(random.bytes(64)),
        2 => frame[near] = TURNING_POINTS[random.below(TURNING_POINTS.len())],
        3 => frame[at] = random.byte(),
        4 => frame[near] ^= 1 << random.below(8),
        // What another frame has at this place: its addresses, its ports, its options.
        5 => {
            let end = (near + 1 + random.below(32)).min(frame.len()).min(other.len());
            if near < end {
                frame[near..end].copy_from_slice(&other[near..end]);
            }
        }
        // A header twice, or one too few.
        6 => {
            let piece = frame[near..(near + 8).min(frame.len())].to_vec();
            frame.splice(near..near, piece);
        }
        7 => drop(frame.drain(near..(near + 4).min(frame.len()))),
        _ => {
            let bytes = random.bytes(8);
            let end = (near + bytes.len()).min(frame.len());
            frame[near..end].copy_from_slice(&bytes[..end - near]);
        }
    }
    frame.truncate(LONGEST);
}

/// Makes the length in the IP header that of the frame, so that what is behind it is read.
fn mend(frame: &mut [u8]) {
    let length = frame.len() - ETHERNET;
    match frame[12..] {
        [8, 0, ref mut ip @ ..] if length >= 20 => {
            ip[2..4].copy_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        }
        [0x86, 0xdd, ref mut ip @ ..] if length >= 40 => {
            ip[4..6].copy_from_slice(&u16::try_from(length - 40).unwrap().to_be_bytes());
        }
        _ => {}
    }
}

/// The kernel runs no program on less than a whole IP header.
fn runnable(frame: &mut Vec<u8>) {
    frame.resize(frame.len().max(ETHERNET + 1), 0);
    let least = match frame[12..] {
        [8, 0, ..] => 20,
        [0x86, 0xdd, ..] => 40,
        _ => 1,
    };
    frame.resize(frame.len().max(ETHERNET + least), 0);
}
