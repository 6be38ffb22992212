//! Options from the environment, where a template of a pod leaves a variable empty rather than out.

use std::env;

const PREFIX: &str = "MILLRACE_";

/// A variable of ours that is empty or blank says nothing: it goes before anybody reads it.
pub(super) fn forget_empty() {
    let empty: Vec<_> = env::vars_os()
        .filter(|(name, value)| name.to_string_lossy().starts_with(PREFIX) && value.to_string_lossy().trim().is_empty())
        .map(|(name, _)| name)
        .collect();
    for name in empty {
        // SAFETY: called before any other thread exists, so that nobody reads the environment meanwhile.
        unsafe { env::remove_var(name) };
    }
}

/// A word that may be empty, where it comes as an argument.
pub(super) fn said(text: &str) -> Option<String> {
    Some(text.trim().to_owned()).filter(|word| !word.is_empty())
}

/// An item of a list; none where there is nothing between two commas.
pub(super) fn item<T: std::str::FromStr>(text: &str) -> Result<Option<T>, T::Err> {
    match text.trim() {
        "" => Ok(None),
        word => word.parse().map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::said;

    /// As a template writes `--zone=$(ZONE)` where there is none: it must not hide the Node object's.
    #[test]
    fn an_argument_without_a_word_says_nothing() {
        assert_eq!(["", " ", " a "].map(said), [None, None, Some("a".to_owned())]);
    }
}
