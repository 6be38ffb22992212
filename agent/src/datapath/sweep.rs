//! Housekeeping of the connection tables: the kernel's program looks at each flow and deletes what is over, so that no
//! packet can come in between; the agent only says when.

use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use millrace_common::sweep::{FRAME, Report};

use super::{Loaded, SetupError};

const PROGRAM: &str = "mr_sweep";

/// Runs the program once: takes as long as one walk over both tables.
///
/// # Errors
/// Names the program; also when it reports nothing.
pub fn sweep(loaded: &Loaded) -> Result<Report, SetupError> {
    let failed =
        |source| SetupError::Program { program: PROGRAM.to_owned(), operation: "run", source: Box::new(source) };
    let absent = || SetupError::NoProgram { program: PROGRAM.to_owned() };
    let program: &SchedClassifier = loaded.ebpf.program(PROGRAM).ok_or_else(absent)?.try_into().map_err(failed)?;
    let mut report = [0; FRAME];
    let mut options = TestRunOptions::new();
    options.data_in = Some(&[0; FRAME]);
    options.data_out = Some(&mut report);
    let result = program.test_run(options).map_err(failed)?;
    Report::from_frame(&report)
        .filter(|_| result.return_value == Report::WRITTEN.cast_unsigned())
        .ok_or_else(|| SetupError::NoReport { program: PROGRAM.to_owned(), returned: result.return_value })
}
