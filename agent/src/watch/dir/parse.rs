//! One manifest file: what it says, or why it cannot be read.

use std::{
    fs::File,
    io::{self, BufReader, Read as _},
    path::Path,
};

use serde::de::DeserializeSeed;

use super::{
    document::{Document, MOST_BYTES, documents},
    manifest::{Contents, Manifest},
};
use crate::watch::Settings;

/// Reads every document of the file; one that makes no sense hides no other. The error says why the file cannot be read;
/// then nothing of it counts.
pub(super) fn parse(path: &Path, settings: &Settings) -> Result<Contents, String> {
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    let mut contents = Contents::default();
    if path.extension().is_some_and(|extension| extension == "json") {
        // JSON is YAML too, but its own parser is an order of magnitude faster.
        let mut deserializer = serde_json::Deserializer::from_reader(BufReader::new(file.take(MOST_BYTES as u64)));
        let manifest = Manifest { settings, contents: &mut contents };
        manifest
            .deserialize(&mut deserializer)
            .and_then(|()| deserializer.end())
            .map_err(|error| format!("no JSON: {error}; correct it there"))?;
        return Ok(contents);
    }
    for document in documents(BufReader::new(file)) {
        let document = document.map_err(|error| unreadable(&error))?;
        let named = contents.unnamed.len();
        let read = read(&document, Manifest { settings, contents: &mut contents });
        contents.unnamed.extend(read.err());
        for reason in &mut contents.unnamed[named..] {
            reason.push_str(&format!(" (in the document from line {})", document.line));
        }
    }
    Ok(contents)
}

fn read(document: &Document, manifest: Manifest<'_>) -> Result<(), String> {
    // The limits on aliases stay: they end a document that unfolds to something monstrous. The plain sizes do not fit a
    // `List` of a whole cluster.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: usize::MAX,
            max_nodes: usize::MAX,
            max_total_scalar_bytes: usize::MAX,
        },
        with_snippet: false,
    };
    serde_saphyr::with_deserializer_from_str_with_options(&document.text, options, |deserializer| {
        manifest.deserialize(deserializer)
    })
    .map_err(|error| {
        let render = serde_saphyr::render_options! { line_offset: document.line.saturating_sub(1) };
        let problem = error.render_with_options(render);
        // What to set in a program is no advice to who wrote the file.
        let problem = problem.replace(", set DuplicateKeyPolicy in Options if acceptable", "");
        format!("no manifest: {problem}; correct it there")
    })
}

fn unreadable(error: &io::Error) -> String {
    format!("cannot be read: {error}; make it a text file that the agent may read")
}
