//! Who owns a service record: a name that survives restarts in the map NAMES.

use std::{fmt, str::FromStr, sync::Arc};

use super::Family;
use crate::model::{Protocol, ServiceKey};

/// Written as `namespace/name:port/TCP/v4`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortName {
    pub service: ServiceKey,
    /// The port's name, or its number where it has none.
    pub port: Arc<str>,
    pub protocol: Protocol,
    pub family: Family,
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}/{}", self.service, self.port, self.protocol.name(), self.family.name())
    }
}

/// A text that no millrace wrote as a record's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not of the form namespace/name:port/PROTOCOL/v4")]
pub struct NotAPortName;

impl FromStr for PortName {
    type Err = NotAPortName;

    fn from_str(text: &str) -> Result<Self, NotAPortName> {
        let parse = || {
            let (service, port) = text.split_once(':')?;
            let (namespace, name) = service.split_once('/')?;
            let (port, rest) = port.split_once('/')?;
            let (protocol, family) = rest.split_once('/')?;
            let whole = !(namespace.is_empty() || name.is_empty() || port.is_empty());
            whole.then_some(Self {
                service: ServiceKey::new(namespace, name),
                port: port.into(),
                protocol: Protocol::from_name(protocol)?,
                family: [Family::V4, Family::V6].into_iter().find(|f| f.name() == family)?,
            })
        };
        parse().ok_or(NotAPortName)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_read_back_from_the_map_is_the_name_that_was_written() {
        let name = PortName {
            service: ServiceKey::new("shop", "cart.v2"),
            port: "http".into(),
            protocol: Protocol::Sctp,
            family: Family::V6,
        };
        assert_eq!(name.to_string(), "shop/cart.v2:http/SCTP/v6");
        assert_eq!(name.to_string().parse(), Ok(name));
    }

    #[test]
    fn what_millrace_did_not_write_is_no_name() {
        for text in
            ["", "shop", "shop/cart", "shop/cart:http", "shop/cart:http/TCP", "shop/cart:http/TCP/v5", "/:/TCP/v4"]
        {
            assert_eq!(text.parse::<PortName>(), Err(NotAPortName), "{text:?}");
        }
    }
}
