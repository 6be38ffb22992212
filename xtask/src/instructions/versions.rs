//! Who was counted: what the kernel and the rivals' tools say of themselves, in the machine. Pure.

use anyhow::{Result, ensure};

/// As the counting test says it: `version | who | what it says`.
const WORD: &str = "version";

/// Who, and what it says; `None` of a line that says something else.
pub(super) fn said(line: &str) -> Option<(&str, &str)> {
    let (word, rest) = line.split_once('|')?;
    let (who, what) = rest.split_once('|')?;
    (word.trim() == WORD).then(|| (who.trim(), what.trim()))
}

/// As a table.
pub(super) fn rendered(lines: &[String]) -> Result<String> {
    let versions: Vec<_> = lines.iter().filter_map(|line| said(line)).collect();
    ensure!(!versions.is_empty(), "the counting test has not said who was counted");
    let rows = versions.into_iter().map(|(who, what)| format!("| {who} | {what} |\n"));
    Ok("| way | kernel and tools |\n| --- | --- |\n".to_owned() + &rows.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_says_who_was_counted_is_told_from_a_count() {
        assert_eq!(
            said("version | iptables, nft | iptables v1.8.9 (nf_tables)"),
            Some(("iptables, nft", "iptables v1.8.9 (nf_tables)"))
        );
        assert_eq!(said("direct | 0 | 107000 | 1 | 2 | 3"), None);
    }

    #[test]
    fn a_table_without_anybody_is_not_written() {
        let lines = ["direct | 0 | 1", "version | kernel | 6.12.0"].map(str::to_owned);
        assert_eq!(
            rendered(&lines).expect("a table"),
            "| way | kernel and tools |\n| --- | --- |\n| kernel | 6.12.0 |\n"
        );
        assert!(rendered(&lines[..1]).is_err());
    }
}
