//! Maps in memory with programs that read them between any two operations, slowly: a program that has looked up a
//! frontend may read the record, the slot and the backend many operations later, but never later than the end of a
//! grace period.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use millrace_agent::{
    datapath::{MemoryTables, TableError, Tables},
    diff::Op,
    lb::{Family, Frontend},
    model::Algorithm,
};
use millrace_common::{
    maglev,
    service::{Attributes, NoEndpoints, SetWord, inside_uses_local},
};

use super::{
    Random,
    model::{Expected, ExpectedFrontend},
};

pub struct Watched {
    pub tables: MemoryTables,
    pub random: Random,
    readers: Vec<Reader>,
    /// Something was deleted from FRONTENDS since the last grace period.
    deleted: BTreeSet<Family>,
    /// What the frontends may say: as before the change under way, and as after it.
    pub allowed: [BTreeMap<Frontend, ExpectedFrontend>; 2],
    pub reads: u64,
    /// For the message of a failure.
    history: VecDeque<Op>,
}

/// A program under way.
#[derive(Clone, Copy)]
struct Reader {
    frontend: Frontend,
    kind: u8,
    index: u32,
    stage: Stage,
    /// The frontend was deleted since the lookup.
    gone: bool,
}

#[derive(Clone, Copy)]
enum Stage {
    Record,
    Slot(SetWord),
    Backend { id: u32, epoch: u32 },
}

impl Watched {
    pub fn new(tables: MemoryTables, seed: u64) -> Self {
        Self {
            tables,
            random: Random(seed),
            readers: Vec::new(),
            deleted: BTreeSet::new(),
            allowed: Default::default(),
            reads: 0,
            history: VecDeque::new(),
        }
    }

    /// Each frontend's words say what its own service said before the change, or what it says after it (perhaps to
    /// other frontends than this one, which is about to go).
    fn walk(&self) {
        for (frontend, (_, index)) in self.tables.frontends() {
            let record = self.tables.service(*index);
            let owners: BTreeSet<&String> =
                self.allowed.iter().filter_map(|side| side.get(frontend)).map(|expected| &expected.service).collect();
            let allowed: Vec<&ExpectedFrontend> = (self.allowed.iter().flatten())
                .filter(|(other, expected)| {
                    let alike = other.protocol == frontend.protocol && other.family() == frontend.family();
                    alike && owners.contains(&expected.service)
                })
                .map(|(_, expected)| expected)
                .collect();
            for (word, pick) in
                [(record.cluster, (|e| &e.cluster) as fn(&ExpectedFrontend) -> &Expected), (record.local, |e| &e.local)]
            {
                let found = self.resolve(frontend.family(), *index, SetWord(word));
                assert!(
                    allowed.iter().any(|expected| *pick(expected) == found),
                    "{frontend} finds {found:?} in record {index}, allowed: {allowed:#?}, after {:?}",
                    self.history.iter().map(shown).collect::<Vec<_>>()
                );
            }
        }
    }

    fn resolve(&self, family: Family, index: u32, word: SetWord) -> Expected {
        if word.count() == 0 {
            return match word.no_endpoints() {
                NoEndpoints::Unused => Expected::Unused,
                NoEndpoints::Reject => Expected::Reject,
                NoEndpoints::Drop => Expected::Drop,
            };
        }
        let algorithm = if word.has_table() { Algorithm::Maglev } else { Algorithm::Random };
        if word.has_table() {
            let size = maglev::size(word.count());
            for place in [0, size / 2, size - 1] {
                let member = self.tables.place(family, word, place);
                assert!(member.is_some_and(|member| u32::from(member) < word.count()), "a table of another set");
            }
        }
        let mut last = None;
        let slots = word.base()..word.base() + word.count();
        let address = |at| {
            let slot = self.tables.slot(family, at).expect("a word leads to a slot that was written");
            assert_eq!((slot.owner, slot.generation), (index, word.generation()), "a foreign slot");
            assert!(self.tables.backend(slot.backend).serving(), "a set holds a backend that does not serve");
            assert!(last < Some(slot.backend), "a set is sorted by backend id");
            last = Some(slot.backend);
            slot.address
        };
        Expected::Endpoints(algorithm, slots.map(address).collect())
    }

    /// The reader goes one step further; false: it has ended.
    fn advance(&mut self, at: usize) -> bool {
        let Reader { frontend, kind, index, stage, gone } = self.readers[at];
        self.reads += 1;
        match stage {
            Stage::Record => {
                let record = self.tables.service(index);
                let local = inside_uses_local(kind, Attributes(record.attributes));
                let word = SetWord(if local { record.local } else { record.cluster });
                if word.count() == 0 {
                    // "Not millrace's" is the truth only about a frontend that goes.
                    let [before, after] = self.allowed.each_ref().map(|side| side.get(&frontend).map(|e| &e.service));
                    let stays = !gone && before.is_some() && before == after;
                    let unused = word.no_endpoints() == NoEndpoints::Unused;
                    assert!(!(stays && unused), "{frontend} finds no set on the path in use");
                    return false;
                }
                self.readers[at].stage = Stage::Slot(word);
            }
            Stage::Slot(word) => {
                let at_slot = word.base() + self.random.below(word.count() as usize) as u32;
                let slot = self.tables.slot(frontend.family(), at_slot).expect("a slot that was written");
                let found = (slot.owner, slot.generation);
                assert_eq!(found, (index, word.generation()), "{frontend} reads a slot of another set");
                let epoch = self.tables.backend(slot.backend).epoch();
                self.readers[at].stage = Stage::Backend { id: slot.backend, epoch };
            }
            Stage::Backend { id, epoch } => {
                let state = self.tables.backend(id);
                assert_eq!(state.epoch(), epoch, "backend {id} was used again under a reader");
                return false;
            }
        }
        true
    }

    fn run_readers(&mut self) {
        for _ in 0..self.random.below(4).min(self.readers.len()) {
            let at = self.random.below(self.readers.len());
            if !self.advance(at) {
                self.readers.swap_remove(at);
                if self.readers.is_empty() {
                    return;
                }
            }
        }
    }

    fn start_reader(&mut self) {
        let count = self.tables.frontends().count();
        if count == 0 || self.readers.len() > 20 {
            return;
        }
        let at = self.random.below(count);
        let (frontend, (kind, index)) = self.tables.frontends().nth(at).expect("fewer than counted");
        let reader =
            Reader { frontend: *frontend, kind: *kind as u8, index: *index, stage: Stage::Record, gone: false };
        self.readers.push(reader);
    }
}

impl Tables for Watched {
    fn execute(&mut self, op: &Op) -> Result<(), TableError> {
        match op {
            Op::Grace => {
                while let Some(last) = self.readers.len().checked_sub(1) {
                    if !self.advance(last) {
                        self.readers.pop();
                    }
                }
            }
            Op::InsertFrontend { frontend, .. } => {
                assert!(
                    !self.deleted.contains(&frontend.family()),
                    "an insert after a delete, no grace period between"
                );
            }
            Op::InsertOwned { address } => assert!(!self.deleted.contains(&Family::of(*address)), "the same for marks"),
            _ => {}
        }
        self.tables.execute(op)?;
        match op {
            Op::Grace => self.deleted.clear(),
            Op::DeleteFrontend { frontend } => {
                self.deleted.insert(frontend.family());
                for reader in self.readers.iter_mut().filter(|reader| reader.frontend == *frontend) {
                    reader.gone = true;
                }
            }
            Op::DeleteOwned { address } => drop(self.deleted.insert(Family::of(*address))),
            _ => {}
        }
        self.history.push_back(op.clone());
        if self.history.len() > 20 {
            self.history.pop_front();
        }
        self.walk();
        self.start_reader();
        self.run_readers();
        Ok(())
    }
}

fn shown(op: &Op) -> String {
    match op {
        Op::StoreName { index, name } => format!("StoreName {index} {}", String::from_utf8_lossy(&name.0)),
        other => format!("{other:?}"),
    }
}
