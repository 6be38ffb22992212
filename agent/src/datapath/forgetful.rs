//! How full the tables are that programs write and the kernel keeps from overflowing: the LRU tables, which forget what
//! nobody has asked for longest. An entry counts until another displaces it, also where what it was for is over: a table that
//! is full is no fault, but says that what it remembers may be younger than its time.

use std::{io, os::fd::AsFd};

use aya::maps::{MapData, MapError};
use millrace_common::maps::{self, MapKind, MapSpec};

use super::{Pins, SetupError, pins::open_pinned, syscall};

/// Elements that are read at a time. More in one bucket of the kernel's table would end a walk: far more than there are.
const BATCH: u32 = 512;

/// The tables, open for reading.
#[derive(Debug)]
pub struct Forgetful {
    tables: Vec<Table>,
}

#[derive(Debug)]
struct Table {
    spec: &'static MapSpec,
    capacity: u32,
    map: MapData,
}

/// A table's entries, and what it has room for.
#[derive(Debug)]
pub struct Filled {
    pub map: &'static str,
    pub capacity: u32,
    pub used: Result<u32, SetupError>,
}

impl Forgetful {
    /// Opens the pinned maps that `load` has checked.
    ///
    /// # Errors
    /// Names the map that is missing.
    pub fn open(pins: &Pins) -> Result<Self, SetupError> {
        let forget = maps::ALL.iter().filter(|spec| spec.kind == MapKind::LruHash);
        let open = |spec: &'static MapSpec| {
            let map = open_pinned(&pins.map(spec.name))?;
            let failed = |source| SetupError::Map { map: spec.name.to_owned(), operation: "info", source };
            let capacity = map.info().map_err(failed)?.max_entries();
            Ok(Table { spec, capacity, map })
        };
        Ok(Self { tables: forget.map(open).collect::<Result<_, SetupError>>()? })
    }

    /// Walks each table once, bucket by bucket: however many entries come and go meanwhile, the walk ends.
    pub fn count(&self) -> impl Iterator<Item = Filled> {
        self.tables.iter().map(|table| {
            let failed = |error| SetupError::Map {
                map: table.spec.name.to_owned(),
                operation: "count",
                source: MapError::IoError(error),
            };
            Filled { map: table.spec.name, capacity: table.capacity, used: table.count().map_err(failed) }
        })
    }
}

impl Table {
    fn count(&self) -> io::Result<u32> {
        let buffer = |size: u32| vec![0; (size * BATCH) as usize];
        let (mut keys, mut values) = (buffer(self.spec.key_size), buffer(self.spec.value_size));
        let (mut used, mut bucket) = (0, None);
        loop {
            let read = syscall::map_lookup_batch(self.map.fd().as_fd(), bucket, BATCH, &mut keys, &mut values)?;
            used += read.count;
            bucket = read.next;
            if bucket.is_none() {
                return Ok(used);
            }
        }
    }
}
