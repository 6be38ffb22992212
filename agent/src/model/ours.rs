//! Which objects a service proxy looks at, and names that it can keep.

use std::collections::BTreeMap;

use super::Malformed;

/// KEP-2447: objects that another proxy serves.
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// Set by the endpoints controllers on what belongs to a headless Service, whatever its value.
const HEADLESS: &str = "service.kubernetes.io/headless";
/// DNS labels (RFC 1123): the map NAMES has room for no longer ones.
const LABEL_BYTES: usize = 63;

/// True for an object that the proxy called `proxy_name` serves (`None`: the default proxy).
pub(super) fn is_ours(labels: Option<&BTreeMap<String, String>>, proxy_name: Option<&str>) -> bool {
    let label = |key: &str| labels.and_then(|labels| labels.get(key)).map(String::as_str);
    label(HEADLESS).is_none() && label(PROXY_NAME).is_none_or(|name| Some(name) == proxy_name)
}

/// A name that fits into a record's name and reads back from it.
pub(super) fn checked<'a>(field: &str, name: Option<&'a str>, longest: usize) -> Result<&'a str, Malformed> {
    let problem = match name {
        None | Some("") => "is missing; every object needs one".to_owned(),
        Some(name) if name.len() > longest => format!("`{name}` is longer than {longest} characters; shorten it"),
        Some(name) if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.') => {
            format!("`{name}` has other characters than a-z, 0-9, '-' and '.'; rename it")
        }
        Some(name) => return Ok(name),
    };
    Err(Malformed::new(field, problem))
}

/// Namespace (`default` where a manifest has none) and name of a Service or what points to one.
pub(super) fn namespace_and_name<'a>(
    namespace: Option<&'a str>,
    name: Option<&'a str>,
) -> Result<(&'a str, &'a str), Malformed> {
    Ok((
        checked("metadata.namespace", Some(namespace.unwrap_or("default")), LABEL_BYTES)?,
        checked("metadata.name", name, LABEL_BYTES)?,
    ))
}
