//! Tables in documents, each between two comments that name it: `<!-- name -->`, `<!-- end of name -->`.

use anyhow::{Context as _, Result};

/// The table of that name.
pub(crate) fn table<'text>(text: &'text str, name: &str) -> Result<&'text str> {
    Ok(parts(text, name)?.1)
}

/// The text with another table of that name.
pub(crate) fn with_table(text: &str, name: &str, table: &str) -> Result<String> {
    let (before, _, after) = parts(text, name)?;
    Ok(format!("{before}{table}{after}"))
}

/// Before the table, the table, and what is after it; the comments are outside.
fn parts<'text>(text: &'text str, name: &str) -> Result<(&'text str, &'text str, &'text str)> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let from = text.find(&begin).map(|at| at + begin.len());
    let parts = from.and_then(|from| {
        let (before, rest) = text.split_at(from);
        let (table, after) = rest.split_at(rest.find(&end)?);
        Some((before, table, after))
    });
    parts.with_context(|| format!("no `{}` and `{end}`", begin.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_found_and_replaced_between_its_comments() {
        let text = "a\n<!-- x -->\nold\n<!-- end of x -->\nb";
        assert_eq!(table(text, "x").expect("a table"), "old\n");
        assert_eq!(with_table(text, "x", "new\n").expect("a table"), "a\n<!-- x -->\nnew\n<!-- end of x -->\nb");
        assert!(with_table(text, "y", "").is_err());
    }
}
