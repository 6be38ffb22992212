//! `--source`: which of the sources.

use std::{fmt, path::PathBuf, str::FromStr};

use super::WatchError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The API server.
    Kube,
    /// A directory of manifests.
    Directory(PathBuf),
}

impl FromStr for Source {
    type Err = WatchError;

    fn from_str(value: &str) -> Result<Self, WatchError> {
        match value.split_once(':') {
            None if value == "kube" => Ok(Self::Kube),
            Some(("dir", path)) if !path.is_empty() => Ok(Self::Directory(path.into())),
            _ => Err(WatchError::Source { value: value.to_owned() }),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kube => f.write_str("kube"),
            Self::Directory(path) => write!(f, "dir:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_written_as_it_is_read() {
        for value in ["kube", "dir:/etc/millrace/services", "dir:manifests", "dir:C:odd"] {
            assert_eq!(value.parse::<Source>().unwrap().to_string(), value);
        }
    }

    #[test]
    fn anything_else_is_refused_with_what_to_write() {
        for value in ["", "kube:", "dir", "dir:", "file:/etc"] {
            let error = value.parse::<Source>().unwrap_err().to_string();
            assert!(error.contains("dir:PATH"), "{error}");
        }
    }
}
