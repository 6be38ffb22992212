//! Steps with a name and a time: a line before each, a line after, and a table at the end.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

#[derive(Default)]
pub(crate) struct Steps {
    done: Vec<(String, Duration)>,
}

impl Steps {
    /// # Errors
    /// The step's own, under its name.
    pub(crate) fn step(&mut self, name: &str, run: impl FnOnce() -> Result<()>) -> Result<()> {
        println!("==> {name}");
        let start = Instant::now();
        run().with_context(|| format!("step `{name}` failed"))?;
        let took = start.elapsed();
        println!("<== {name}: {:.1} s", took.as_secs_f64());
        self.done.push((name.to_owned(), took));
        Ok(())
    }

    pub(crate) fn print(&self) {
        println!();
        for (name, took) in &self.done {
            println!("{:>8.1} s  {name}", took.as_secs_f64());
        }
        println!(
            "{:>8.1} s  all steps passed",
            self.done.iter().map(|(_, took)| *took).sum::<Duration>().as_secs_f64()
        );
    }
}
