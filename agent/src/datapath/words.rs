//! Array maps through memory: written without system calls, flipped by one atomic store.

use std::{
    cell::OnceCell,
    io,
    marker::PhantomData,
    os::fd::{AsFd, AsRawFd},
    ptr,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::{Pod, maps::MapData};
use memmap2::{MmapOptions, MmapRaw};

/// Elements that are mapped at a time, from the first one that is touched: the kernel counts every mapped page of a
/// BPF array as resident, used or not. A page has no more bytes, so windows of any stride begin at a page.
const WINDOW: u32 = 4096;

/// An mmapable array map with values of type `V`.
pub(super) struct SharedArray<V> {
    map: MapData,
    windows: Box<[OnceCell<MmapRaw>]>,
    entries: u32,
    _value: PhantomData<V>,
}

impl<V: Pod> SharedArray<V> {
    /// The kernel rounds an element up to 8 bytes (`array_map_alloc`, kernel/bpf/arraymap.c).
    const STRIDE: usize = size_of::<V>().next_multiple_of(8);

    /// `entries` is what the kernel says of the map, and its values are `V`: the caller has compared their size.
    pub(super) fn open(map: MapData, entries: u32) -> Self {
        let windows = (0..entries.div_ceil(WINDOW)).map(|_| OnceCell::new()).collect();
        Self { map, windows, entries, _value: PhantomData }
    }

    pub(super) fn len(&self) -> u32 {
        self.entries
    }

    fn at(&self, index: u32) -> io::Result<*mut u8> {
        if index >= self.entries {
            return Err(io::Error::from_raw_os_error(libc::E2BIG));
        }
        let (window, offset) = (index / WINDOW, (index % WINDOW) as usize * Self::STRIDE);
        let cell = &self.windows[window as usize];
        let memory = match cell.get() {
            Some(memory) => memory,
            None => {
                let memory = self.map_window(window)?;
                cell.get_or_init(|| memory)
            }
        };
        // SAFETY: the window holds the element: `index` is below `entries`, and `offset` below the window's length.
        Ok(unsafe { memory.as_mut_ptr().add(offset) })
    }

    fn map_window(&self, window: u32) -> io::Result<MmapRaw> {
        let first = window * WINDOW;
        let length = WINDOW.min(self.entries - first) as usize * Self::STRIDE;
        // mmap rounds the last window's length up to a page, as the kernel did with the map.
        let offset = u64::from(first) * Self::STRIDE as u64;
        MmapOptions::new().offset(offset).len(length).map_raw(self.map.fd().as_fd().as_raw_fd())
    }

    /// A copy of one value.
    ///
    /// # Errors
    /// E2BIG beyond the array, here and below.
    pub(super) fn read(&self, index: u32) -> io::Result<V> {
        let value = self.at(index)?.cast::<V>();
        // SAFETY: a whole value lies there, any bytes are a valid `V` (`Pod`), and STRIDE keeps it aligned to 8. Only
        // this process writes while it holds the pins' lock; other readers of the command line may see a torn name.
        Ok(unsafe { ptr::read_volatile(value) })
    }

    /// Writes a value that no program looks at yet.
    pub(super) fn write(&self, index: u32, value: V) -> io::Result<()> {
        let place = self.at(index)?.cast::<V>();
        // SAFETY: as in `read`; the plan writes only free elements with this.
        unsafe { ptr::write_volatile(place, value) };
        Ok(())
    }

    /// One 8-byte store of word `word` of a value, after everything written before it is visible.
    pub(super) fn store_word(&self, index: u32, word: usize, value: u64) -> io::Result<()> {
        debug_assert!(word * 8 < Self::STRIDE);
        let place = self.at(index)?.cast::<u64>();
        // SAFETY: `word` is within the value, the place is aligned to 8, and programs read it as one u64.
        unsafe { AtomicU64::from_ptr(place.add(word)) }.store(value, Ordering::Release);
        Ok(())
    }
}
