//! What maps hold by a device's index, which the kernel gives to another device one day, and for which there is room for a few.

use aya::{
    Pod,
    maps::{HashMap, Map, MapData, MapError},
};

use super::{Pins, SetupError};

/// Removes what this map holds of the devices that go. `V`: its values.
///
/// # Errors
/// Names the map.
pub(super) fn forget<V: Pod>(pins: &Pins, map: &'static str, goes: impl Fn(u32) -> bool) -> Result<(), SetupError> {
    let path = pins.map(map);
    if !path.exists() {
        return Ok(());
    }
    let failed = |source| SetupError::Map { map: map.to_owned(), operation: "delete", source };
    let opened = MapData::from_pin(&path).and_then(Map::from_map_data).map_err(failed)?;
    let mut held: HashMap<_, u32, V> = opened.try_into().map_err(failed)?;
    let indices: Vec<u32> = held.keys().collect::<Result<_, _>>().map_err(failed)?;
    for index in indices.into_iter().filter(|index| goes(*index)) {
        match held.remove(&index) {
            Err(MapError::KeyNotFound) => {}
            result => result.map_err(failed)?,
        }
    }
    Ok(())
}
