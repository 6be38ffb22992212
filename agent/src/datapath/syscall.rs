//! The bpf(2) calls that aya does not offer: an atomic replacement of a cgroup link's program, what a link is attached
//! to, the programs of a cgroup and their maps, a map of maps, and maps read as bytes.

use std::{
    ffi::CString,
    io, mem,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_link_info, bpf_map_type, bpf_prog_info};

/// `BPF_NOEXIST` (linux/bpf.h).
pub(super) const NOEXIST: u64 = 1;

fn zeroed_attr() -> bpf_attr {
    // SAFETY: a union of integers: all zeros is a valid value, and what the kernel wants in unused bytes.
    unsafe { mem::zeroed() }
}

fn bpf(cmd: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i64> {
    // SAFETY: `attr` is a live, fully initialised union of the size that is passed; the callers below point its
    // addresses at buffers that outlive this call and are as long as the kernel expects.
    let result = unsafe { libc::syscall(libc::SYS_bpf, cmd as libc::c_int, attr, size_of::<bpf_attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn fd_number(fd: BorrowedFd<'_>) -> u32 {
    // An open descriptor is never negative.
    fd.as_raw_fd().cast_unsigned()
}

/// Replaces the program of a link, atomically: at every moment the old or the new one runs.
///
/// # Errors
/// ENOLINK when what the link was attached to is gone.
pub(super) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed_attr();
    attr.link_update.link_fd = fd_number(link);
    attr.link_update.__bindgen_anon_1.new_prog_fd = fd_number(program);
    bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attr).map(drop)
}

fn owned(fd: i64) -> OwnedFd {
    // SAFETY: the kernel has just returned this descriptor; nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

/// Opens what is pinned at `path`.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    bpf(bpf_cmd::BPF_OBJ_GET, &mut attr).map(owned)
}

fn info_by_fd<T>(fd: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    let mut attr = zeroed_attr();
    attr.info.bpf_fd = fd_number(fd);
    attr.info.info_len = size_of::<T>() as u32;
    attr.info.info = std::ptr::from_mut(info) as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr).map(drop)
}

fn link_info(link: BorrowedFd<'_>) -> io::Result<bpf_link_info> {
    // SAFETY: plain integers and unions of them: zeros are valid.
    let mut info: bpf_link_info = unsafe { mem::zeroed() };
    info_by_fd(link, &mut info)?;
    Ok(info)
}

/// Id of the cgroup that a link is attached to (the inode number of its directory); 0 when the cgroup is gone.
pub(super) fn link_cgroup(link: BorrowedFd<'_>) -> io::Result<u64> {
    let info = link_info(link)?;
    // SAFETY: the caller asks about a cgroup link; of any other link this reads initialised bytes that mean nothing.
    Ok(unsafe { info.__bindgen_anon_1.cgroup.cgroup_id })
}

/// Index of the device that a TCX or an XDP link is attached to; 0 when the device is gone.
pub(super) fn link_device(link: BorrowedFd<'_>) -> io::Result<u32> {
    let info = link_info(link)?;
    // SAFETY: as above, for a TCX link; of an XDP link, the index is in the same place (linux/bpf.h).
    Ok(unsafe { info.__bindgen_anon_1.tcx.ifindex })
}

/// Ids of the programs attached to this very cgroup (not those inherited from its ancestors).
pub(super) fn cgroup_programs(cgroup: BorrowedFd<'_>, kind: bpf_attach_type) -> io::Result<Vec<u32>> {
    let mut ids = vec![0u32; 64];
    let mut attr = zeroed_attr();
    attr.query.__bindgen_anon_1.target_fd = fd_number(cgroup);
    attr.query.attach_type = kind as u32;
    attr.query.prog_ids = ids.as_mut_ptr() as u64;
    attr.query.__bindgen_anon_2.prog_cnt = ids.len() as u32;
    bpf(bpf_cmd::BPF_PROG_QUERY, &mut attr)?;
    // SAFETY: the kernel wrote the count into this very field.
    let count = unsafe { attr.query.__bindgen_anon_2.prog_cnt } as usize;
    ids.truncate(count.min(64));
    Ok(ids)
}

/// Ids of the maps that a program uses, by the program's id.
pub(super) fn program_maps(id: u32) -> io::Result<Vec<u32>> {
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_6.__bindgen_anon_1.prog_id = id;
    let program = owned(bpf(bpf_cmd::BPF_PROG_GET_FD_BY_ID, &mut attr)?);
    let mut ids = vec![0u32; 64];
    // SAFETY: plain integers: zeros are valid.
    let mut info: bpf_prog_info = unsafe { mem::zeroed() };
    info.nr_map_ids = ids.len() as u32;
    info.map_ids = ids.as_mut_ptr() as u64;
    info_by_fd(program.as_fd(), &mut info)?;
    ids.truncate(info.nr_map_ids as usize);
    Ok(ids)
}

fn create_map(fill: impl FnOnce(&mut bpf_attr)) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    fill(&mut attr);
    bpf(bpf_cmd::BPF_MAP_CREATE, &mut attr).map(owned)
}

/// A one-entry array of u32, and an array of maps with one entry whose inner maps look like it.
pub(super) fn create_array_of_maps() -> io::Result<(OwnedFd, OwnedFd)> {
    fn shape(attr: &mut bpf_attr, kind: bpf_map_type) {
        attr.__bindgen_anon_1.map_type = kind as u32;
        attr.__bindgen_anon_1.key_size = 4;
        attr.__bindgen_anon_1.value_size = 4;
        attr.__bindgen_anon_1.max_entries = 1;
    }
    let inner = create_map(|attr| shape(attr, bpf_map_type::BPF_MAP_TYPE_ARRAY))?;
    let outer = create_map(|attr| {
        shape(attr, bpf_map_type::BPF_MAP_TYPE_ARRAY_OF_MAPS);
        attr.__bindgen_anon_1.inner_map_fd = fd_number(inner.as_fd());
    })?;
    Ok((outer, inner))
}

/// Writes one element. `key` and `value` must be as long as the map's key and value.
pub(super) fn map_update(map: BorrowedFd<'_>, key: &[u8], value: &[u8], flags: u64) -> io::Result<()> {
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_2.map_fd = fd_number(map);
    attr.__bindgen_anon_2.key = key.as_ptr() as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = value.as_ptr() as u64;
    attr.__bindgen_anon_2.flags = flags;
    bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// Reads one element into `value`; false when there is none.
pub(super) fn map_lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_2.map_fd = fd_number(map);
    attr.__bindgen_anon_2.key = key.as_ptr() as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = value.as_mut_ptr() as u64;
    found(bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr))
}

/// The key after `key` (the first one: `None`) into `next`; false at the end.
pub(super) fn map_next_key(map: BorrowedFd<'_>, key: Option<&[u8]>, next: &mut [u8]) -> io::Result<bool> {
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_2.map_fd = fd_number(map);
    attr.__bindgen_anon_2.key = key.map_or(0, |key| key.as_ptr() as u64);
    attr.__bindgen_anon_2.__bindgen_anon_1.next_key = next.as_mut_ptr() as u64;
    found(bpf(bpf_cmd::BPF_MAP_GET_NEXT_KEY, &mut attr))
}

/// Part of a walk over a hash table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    pub(super) count: u32,
    /// The bucket to go on from; `None`: that was all.
    pub(super) next: Option<u32>,
}

/// Reads up to `room` elements of a hash table from a bucket on, whole buckets only. `keys` and `values` must have room for
/// so many of the map's keys and values.
///
/// # Errors
/// ENOSPC when one bucket has more.
pub(super) fn map_lookup_batch(
    map: BorrowedFd<'_>,
    bucket: Option<u32>,
    room: u32,
    keys: &mut [u8],
    values: &mut [u8],
) -> io::Result<Batch> {
    let from = bucket.unwrap_or_default();
    let mut next = 0u32;
    let mut attr = zeroed_attr();
    attr.batch.map_fd = fd_number(map);
    attr.batch.in_batch = bucket.map_or(0, |_| std::ptr::from_ref(&from) as u64);
    attr.batch.out_batch = std::ptr::from_mut(&mut next) as u64;
    attr.batch.keys = keys.as_mut_ptr() as u64;
    attr.batch.values = values.as_mut_ptr() as u64;
    attr.batch.count = room;
    let more = found(bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr))?;
    // SAFETY: the kernel wrote the count into this very field, at the end of the table too.
    let count = unsafe { attr.batch.count };
    Ok(Batch { count, next: more.then_some(next) })
}

fn found(result: io::Result<i64>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}
