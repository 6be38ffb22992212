//! Finds a tool chain that can compile Rust for the kernel's virtual machine, and builds millrace's object with it.
//! Used by the agent's build script and by `cargo xtask`; no dependencies, so that both start in no time.

mod build;
mod detect;
mod linker;
mod missing;

pub use build::{BuildError, build};
pub use detect::{DEBIAN_RUSTC, ToolChain, detect};
pub use linker::LINKER_VERSION;
pub use missing::Missing;
