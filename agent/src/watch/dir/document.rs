//! A manifest file, cut into its YAML documents, so that no more than one of them is held as text.

use std::io::{self, BufRead};

/// Of a document: a `List` of half a million endpoints, as kubectl writes them, has less.
pub(super) const MOST_BYTES: usize = 256 << 20;

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
            let line = match line(&mut file, MOST_BYTES - next.text.len()) {
                Err(error) => return Some(Err(error)),
                Ok(line) if line.is_empty() && next.text.is_empty() => return None,
                Ok(line) if line.is_empty() => return Some(Ok(std::mem::take(&mut next))),
                Ok(line) => line,
            };
            read += 1;
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

/// The next line with its end; empty at the end of the file. A file that is no text, or has no end, must not fill the
/// memory before that shows.
fn line(file: &mut impl BufRead, most: usize) -> io::Result<String> {
    let mut line = Vec::new();
    loop {
        let chunk = file.fill_buf()?;
        let end = chunk.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let taken = &chunk[..end.unwrap_or(chunk.len())];
        if taken.contains(&0) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a byte of 0 is in it"));
        }
        if line.len() + taken.len() > most {
            let problem = format!("a document of more than {} MiB; cut it into several", MOST_BYTES >> 20);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
        }
        line.extend_from_slice(taken);
        let (count, over) = (taken.len(), end.is_some() || taken.is_empty());
        file.consume(count);
        if over {
            return String::from_utf8(line)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()));
        }
    }
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
        for bytes in [&b"kind: \xff\xfe"[..], b"kind: A\0"] {
            assert!(documents(bytes).next().unwrap().is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_file_without_an_end_is_given_up() {
        let error = documents(io::BufReader::new(io::repeat(b'a'))).next().unwrap().unwrap_err();
        assert!(error.to_string().contains("more than 256 MiB"), "{error}");
        let error = documents(io::BufReader::new(io::repeat(0))).next().unwrap().unwrap_err();
        assert!(error.to_string().contains("byte of 0"), "{error}");
    }
}
