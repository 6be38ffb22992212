//! What must hold on every kernel of the matrix before anything else can: its verifier accepts every program, with no
//! more work than is recorded, and it has what docs/kernels.md says that it has.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says where")]

mod recorded;

use std::{collections::BTreeMap, sync::LazyLock};

use aya::{Ebpf, programs::Program};
use millrace_agent::datapath;

use crate::recorded::{Record, Table};

/// A program may grow by so much, in percent, before somebody has to look at it.
const GROWTH: u32 = 5;

/// Instructions that the verifier walked through for each program, with everything that the kernel says of it loaded
/// once for all tests here.
static WALKED: LazyLock<BTreeMap<String, u32>> = LazyLock::new(|| {
    let mut object = Ebpf::load(datapath::object()).expect("the kernel creates every map and accepts the BTF");
    let mut walked = BTreeMap::new();
    for (name, program) in object.programs_mut() {
        let loaded = match program {
            Program::CgroupSock(program) => program.load(),
            Program::CgroupSockAddr(program) => program.load(),
            Program::SchedClassifier(program) => program.load(),
            Program::Xdp(program) => program.load(),
            other => panic!("{name} is of a kind that no test loads: {:?}", other.prog_type()),
        };
        loaded.unwrap_or_else(|error| panic!("kernel {} refuses {name}: {error:#?}", recorded::series()));
        let instructions = program.info().unwrap().verified_instruction_count();
        walked.insert(name.to_owned(), instructions.expect("kernels tell since 5.16"));
    }
    walked
});

#[test]
fn every_program_passes_the_verifier() {
    let accepted = WALKED.len();
    assert!(accepted >= 12, "only {accepted} programs are in the object: the socket hooks alone are nine");
    println!("kernel {}: {accepted} programs accepted", recorded::series());
}

/// The verifier gives up at a million: a program that grows does so in sight, kernel by kernel, and never by accident.
#[test]
fn recorded_work_of_the_verifier_is_not_exceeded() {
    let table = Table::named("programs");
    let mut grown = Vec::new();
    for (program, &walked) in WALKED.iter() {
        if recorded::is_written() {
            table.write(program, &walked.to_string());
            continue;
        }
        match table.read(program).map(str::parse::<u32>) {
            Record::Here(Ok(limit)) if u64::from(walked) * 100 <= u64::from(limit) * u64::from(100 + GROWTH) => {}
            Record::Here(limit) => grown.push(format!("{program}: {walked} instructions, recorded: {limit:?}")),
            Record::NoRow => grown.push(format!("{program}: {walked} instructions, no row")),
            Record::NoColumn => {
                println!("NOT RECORDED {program}: {walked} instructions on kernel {}", recorded::series());
            }
        }
    }
    assert!(grown.is_empty(), "more than {GROWTH} % above {}:\n{}", recorded::HINT, grown.join("\n"));
}

#[test]
fn recorded_features_are_those_of_this_kernel() {
    let table = Table::named("features");
    let mut wrong = Vec::new();
    for feature in datapath::features() {
        let row = [feature.name, feature.since, feature.without].join(" | ");
        let here = if feature.here { "yes" } else { "no" };
        if recorded::is_written() {
            table.write(&row, here);
            continue;
        }
        match table.read(&row) {
            Record::Here(cell) if cell == here => {}
            Record::NoColumn => println!("NOT RECORDED {}: {here} on kernel {}", feature.name, recorded::series()),
            other => wrong.push(format!("{row}: {here}, recorded: {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "not as in {}:\n{}", recorded::HINT, wrong.join("\n"));
}
