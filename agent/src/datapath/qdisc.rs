//! Removes the clsact qdiscs that the agent added, where nobody else uses them meanwhile.

use std::io;

use futures::TryStreamExt;
use rtnetlink::{Handle, new_connection, packet_route::tc::TcHandle};

/// Of the devices in `indices`; one that is gone is no error.
///
/// # Errors
/// What the kernel says of a device that is there.
pub(super) fn remove_unused(indices: &[u32]) -> io::Result<()> {
    if indices.is_empty() {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (connection, handle, _) = new_connection()?;
        let connection = tokio::spawn(connection);
        for index in indices.iter().filter_map(|&index| i32::try_from(index).ok()) {
            if !is_used(&handle, index).await? {
                remove(&handle, index).await?;
            }
        }
        connection.abort();
        Ok(())
    })
}

async fn is_used(handle: &Handle, index: i32) -> io::Result<bool> {
    let mut filters = handle.traffic_filter(index);
    for request in [filters.get().ingress(), filters.get().egress()] {
        let found: Vec<_> = request.execute().try_collect().await.map_err(system)?;
        if !found.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn remove(handle: &Handle, index: i32) -> io::Result<()> {
    let mut request = handle.qdisc().del(index);
    request.message_mut().header.parent = TcHandle::CLSACT;
    match request.execute().await.map_err(system) {
        // It went with its device, or somebody else removed it.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOENT | libc::EINVAL)) => Ok(()),
        result => result,
    }
}

fn system(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}
