//! Array maps through memory: written without system calls, flipped by one atomic store.

use std::{
    cell::RefCell,
    io,
    marker::PhantomData,
    os::fd::{AsFd, AsRawFd},
    ptr,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::{Pod, maps::MapData};
use memmap2::{MmapOptions, MmapRaw};
use millrace_common::maglev;

/// Windows begin and end at a page, of whatever size the kernel has them: none has larger ones.
const PAGE: usize = 1 << 16;
/// Windows of a map that stay mapped. The kernel counts every mapped page of a BPF array as resident, and a change
/// touches few of them.
const WINDOWS: usize = 4;

/// An mmapable array map with values of type `V`.
pub(super) struct SharedArray<V> {
    map: MapData,
    /// The one that was used last comes first.
    windows: RefCell<Vec<Window>>,
    entries: u32,
    /// Windows that stay mapped at most.
    most: usize,
    _value: PhantomData<V>,
}

struct Window {
    number: u32,
    memory: MmapRaw,
}

impl<V: Pod> SharedArray<V> {
    /// The kernel rounds an element up to 8 bytes (`array_map_alloc`, kernel/bpf/arraymap.c).
    const STRIDE: usize = size_of::<V>().next_multiple_of(8);
    /// Elements of a window: as few as fill whole pages.
    const WINDOW: u32 = (PAGE >> Self::STRIDE.trailing_zeros()) as u32;

    /// `entries` is what the kernel says of the map, and its values are `V`: the caller has compared their size.
    pub(super) fn open(map: MapData, entries: u32) -> Self {
        Self { map, windows: RefCell::default(), entries, most: WINDOWS, _value: PhantomData }
    }

    /// For a map whose elements are used in no order: each would fall into another window than the last.
    pub(super) fn scattered(self) -> Self {
        Self { most: self.entries.div_ceil(Self::WINDOW) as usize, ..self }
    }

    pub(super) fn len(&self) -> u32 {
        self.entries
    }

    /// Calls `act` with the place of an element, which is valid only meanwhile.
    fn at<T>(&self, index: u32, act: impl FnOnce(*mut u8) -> T) -> io::Result<T> {
        if index >= self.entries {
            return Err(io::Error::from_raw_os_error(libc::E2BIG));
        }
        let (number, offset) = (index / Self::WINDOW, (index % Self::WINDOW) as usize * Self::STRIDE);
        let mut windows = self.windows.borrow_mut();
        match windows.iter().position(|window| window.number == number) {
            Some(at) => windows[..=at].rotate_right(1),
            None => {
                let memory = self.map_window(number)?;
                windows.truncate(self.most.saturating_sub(1));
                windows.insert(0, Window { number, memory });
            }
        }
        // SAFETY: the window holds the element: `index` is below `entries`, and `offset` below the window's length.
        Ok(act(unsafe { windows[0].memory.as_mut_ptr().add(offset) }))
    }

    fn map_window(&self, number: u32) -> io::Result<MmapRaw> {
        let first = number * Self::WINDOW;
        let length = Self::WINDOW.min(self.entries - first) as usize * Self::STRIDE;
        // mmap rounds the last window's length up to a page, as the kernel did with the map.
        let offset = u64::from(first) * Self::STRIDE as u64;
        MmapOptions::new().offset(offset).len(length).map_raw(self.map.fd().as_fd().as_raw_fd())
    }

    /// A copy of one value.
    ///
    /// # Errors
    /// E2BIG beyond the array, here and below.
    pub(super) fn read(&self, index: u32) -> io::Result<V> {
        // SAFETY: a whole value lies there, any bytes are a valid `V` (`Pod`), and STRIDE keeps it aligned to 8. Only
        // this process writes while it holds the pins' lock; other readers of the command line may see a torn name.
        self.at(index, |place| unsafe { ptr::read_volatile(place.cast::<V>()) })
    }

    /// Writes a value that no program looks at yet.
    pub(super) fn write(&self, index: u32, value: V) -> io::Result<()> {
        // SAFETY: as in `read`; the plan writes only free elements with this.
        self.at(index, |place| unsafe { ptr::write_volatile(place.cast::<V>(), value) })
    }

    /// Part of a lookup table in place of a value.
    pub(super) fn read_page(&self, index: u32) -> io::Result<maglev::Page> {
        const { assert!(size_of::<maglev::Page>() <= Self::STRIDE) };
        // SAFETY: as in `read`: a page is no longer than a value, and any bytes are one.
        self.at(index, |place| unsafe { ptr::read_volatile(place.cast::<maglev::Page>()) })
    }

    /// Part of a lookup table that no program looks at yet, in place of a value.
    pub(super) fn write_page(&self, index: u32, page: maglev::Page) -> io::Result<()> {
        const { assert!(size_of::<maglev::Page>() <= Self::STRIDE) };
        // SAFETY: as in `write`.
        self.at(index, |place| unsafe { ptr::write_volatile(place.cast::<maglev::Page>(), page) })
    }

    /// One 8-byte store of word `word` of a value, after everything written before it is visible.
    pub(super) fn store_word(&self, index: u32, word: usize, value: u64) -> io::Result<()> {
        debug_assert!(word * 8 < Self::STRIDE);
        self.at(index, |place| {
            // SAFETY: `word` is within the value, the place is aligned to 8, and programs read it as one u64.
            unsafe { AtomicU64::from_ptr(place.cast::<u64>().add(word)) }.store(value, Ordering::Release);
        })
    }
}
