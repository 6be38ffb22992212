//! What must hold on every kernel of the matrix before anything else can: its verifier accepts every program.

use std::fs;

use aya::{Ebpf, programs::Program};
use millrace_agent::datapath;

#[test]
fn every_program_passes_the_verifier() {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("/proc is mounted");
    let mut object = Ebpf::load(datapath::object()).expect("the kernel creates every map and accepts the BTF");
    let mut accepted = 0;
    for (name, program) in object.programs_mut() {
        let loaded = match program {
            Program::CgroupSockAddr(program) => program.load(),
            Program::SchedClassifier(program) => program.load(),
            other => panic!("{name} is of a kind that no test loads: {:?}", other.prog_type()),
        };
        loaded.unwrap_or_else(|error| panic!("kernel {} refuses {name}: {error:#?}", release.trim()));
        accepted += 1;
    }
    assert!(accepted >= 8, "only {accepted} programs are in the object: the socket hooks alone are eight");
    println!("kernel {}: {accepted} programs accepted", release.trim());
}
