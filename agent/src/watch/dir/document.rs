//! A manifest file, cut into its YAML documents, so that no more than one of them is held as text.

use std::io::{self, BufRead};

/// One document of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Document {
    /// Of its first line, counted from 1.
    pub line: u64,
    pub text: String,
}

/// Cuts at each line that opens a document. YAML allows `---` at the start of a line for nothing else, not even inside
/// of a block scalar: <https://yaml.org/spec/1.2.2/#914-explicit-documents>.
pub(super) fn documents(mut file: impl BufRead) -> impl Iterator<Item = io::Result<Document>> {
    let mut next = Document { line: 1, text: String::new() };
    let mut read = 0;
    std::iter::from_fn(move || {
        loop {
            let mut line = String::new();
            match file.read_line(&mut line) {
                Err(error) => return Some(Err(error)),
                Ok(0) if next.text.is_empty() => return None,
                Ok(0) => return Some(Ok(std::mem::take(&mut next))),
                Ok(_) => read += 1,
            }
            if opens_document(&line) {
                let opened = Document { line: read, text: line };
                let closed = std::mem::replace(&mut next, opened);
                if says_something(&closed.text) {
                    return Some(Ok(closed));
                }
            } else {
                next.text.push_str(&line);
            }
        }
    })
    .filter(|document| document.as_ref().map_or(true, |document| says_something(&document.text)))
}

fn opens_document(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Whether there is more than comments, directives and markers.
fn says_something(text: &str) -> bool {
    text.lines().map(|line| line.trim_start_matches('\u{feff}').trim()).any(|line| {
        !(line.is_empty()
            || line.starts_with(['#', '%'])
            || line == "---"
            || line == "..."
            || line.starts_with("--- #"))
    })
}

impl Default for Document {
    fn default() -> Self {
        Self { line: 1, text: String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<(u64, String)> {
        documents(text.as_bytes()).map(|document| document.map(|found| (found.line, found.text)).unwrap()).collect()
    }

    #[test]
    fn each_document_knows_the_line_it_begins_on() {
        let text = "# a comment\n\n---\nkind: A\n--- # the second\nkind: B\n---\n---\r\nkind: C\n...\n";
        let expected = [(3, "---\nkind: A\n"), (5, "--- # the second\nkind: B\n"), (8, "---\r\nkind: C\n...\n")];
        assert_eq!(cut(text), expected.map(|(line, text)| (line, text.to_owned())));
    }

    #[test]
    fn a_file_needs_no_marker_and_may_say_nothing() {
        assert_eq!(cut("kind: A"), [(1, "kind: A".to_owned())]);
        assert_eq!(cut("---\n# nothing\n---\n"), []);
        assert_eq!(cut(""), []);
    }

    #[test]
    fn dashes_inside_of_a_value_cut_nothing() {
        assert_eq!(cut("a: |\n  ---\nb: ---x\n----\n").len(), 1);
    }

    #[test]
    fn bytes_that_are_no_text_are_an_error() {
        assert!(documents(&b"kind: \xff\xfe"[..]).next().unwrap().is_err());
    }
}
