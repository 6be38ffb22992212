//! What must hold on every kernel of the matrix before anything else can: its verifier accepts every program, with no
//! more work than is recorded, and it has what docs/kernels.md says that it has.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says where")]

mod in_force;
mod recorded;
mod stack;
mod verifier;

use std::{collections::BTreeMap, sync::LazyLock};

use aya::{
    Ebpf,
    programs::{Program, ProgramError, ProgramInfo},
};
use millrace_agent::datapath::{self, Feature};

use crate::{
    in_force::{InForce, Tried},
    recorded::{Record, Table},
    stack::{MOST, MOST_FRAMES, deepest},
    verifier::{Code, Walk},
};

/// A program may grow by so much, in percent, before somebody has to look at it.
const GROWTH: u64 = 5;

/// What this kernel made of the programs: loaded once for all tests here.
struct Found {
    /// What the verifier walked through for each that it accepted.
    walks: BTreeMap<String, Walk>,
    features: Vec<(Feature, InForce)>,
}

static FOUND: LazyLock<Found> = LazyLock::new(|| {
    let mut object = Ebpf::load(datapath::object()).expect("the kernel creates every map and accepts the BTF");
    let code = Code::over(datapath::object(), &object);
    let (mut walks, mut refused, mut tried) = (BTreeMap::new(), Vec::new(), Vec::new());
    for (name, program) in object.programs_mut() {
        let loaded = load(program);
        let accepted = loaded.is_ok();
        tried.push(Tried { name: name.to_owned(), helpers: code.helpers(name).into_iter().collect(), accepted });
        match loaded {
            Ok(info) => drop(walks.insert(name.to_owned(), walked(&code, name, &info))),
            Err(error) => refused.push(format!("{name}: {error:#?}")),
        }
    }
    // What was refused cannot be attached.
    assert!(refused.is_empty(), "kernel {} refuses\n{}", recorded::series(), refused.join("\n"));
    let attached = in_force::attached(&mut object);
    let features = datapath::features().into_iter().map(|feature| {
        let seen = in_force::of(feature.name, &object, &tried, &attached);
        (feature, seen)
    });
    let features = features.collect();
    Found { walks, features }
});

fn load(program: &mut Program) -> Result<ProgramInfo, ProgramError> {
    match program {
        Program::CgroupSock(program) => program.load()?,
        Program::CgroupSockAddr(program) => program.load()?,
        Program::SchedClassifier(program) => program.load()?,
        Program::Xdp(program) => program.load()?,
        other => panic!("a program of a kind that no test loads: {:?}", other.prog_type()),
    }
    program.info()
}

/// What is loaded with a log must be what aya loaded: the verifier did the same work for both.
fn walked(code: &Code, name: &str, info: &ProgramInfo) -> Walk {
    let walk = code.walk(name, info.btf_id().expect("the programs have BTF"));
    let instructions = info.verified_instruction_count().expect("kernels tell since 5.16");
    assert_eq!(walk.instructions, instructions, "{name}: loaded here, and loaded by aya");
    walk
}

/// Asked of the programs as every kernel gets them: the oldest one has the least room.
#[test]
fn no_chain_of_calls_needs_more_stack_than_the_oldest_kernel_has() {
    let object = Ebpf::load(datapath::object()).expect("the kernel creates every map and accepts the BTF");
    let code = Code::over(datapath::object(), &object);
    for (name, _) in object.programs() {
        let (bytes, chain, frames) = deepest(code.instructions(name));
        println!("{name}: {bytes} bytes of stack, by the functions at {chain:?}; {frames} frames");
        assert!(frames <= MOST_FRAMES, "{name}: {frames} functions are under way at once, of {MOST_FRAMES}");
        assert!(bytes <= MOST, "{name}: {bytes} bytes of stack, of {MOST}, by the functions at {chain:?}");
    }
}

#[test]
fn every_program_passes_the_verifier() {
    let accepted = FOUND.walks.len();
    assert!(accepted >= 12, "only {accepted} programs are in the object: the socket hooks alone are nine");
    println!("kernel {}: {accepted} programs accepted", recorded::series());
}

/// The verifier gives up at a million: a program that grows does so in sight, kernel by kernel, and never by accident.
#[test]
fn recorded_instructions_of_the_verifier_are_not_exceeded() {
    compare("programs", "instructions", |walk| vec![walk.instructions]);
}

/// Each state is memory while a program is loaded, and one more to compare every further one with.
#[test]
fn recorded_states_of_the_verifier_are_not_exceeded() {
    compare("states", "states", |walk| vec![walk.states, walk.most]);
}

/// Compares the figures of each program with its cell in this kernel's column: `1` or `1 / 2`.
fn compare(table: &'static str, what: &str, figures: impl Fn(&Walk) -> Vec<u32>) {
    let table = Table::named(table);
    let mut grown = Vec::new();
    for (program, walk) in &FOUND.walks {
        let now = figures(walk);
        let cell = now.iter().map(u32::to_string).collect::<Vec<_>>().join(SEPARATOR);
        if recorded::is_written() {
            table.write(program, &cell);
            continue;
        }
        match table.read(program) {
            Record::Here(recorded) if fits(&now, recorded) => {}
            Record::Here(recorded) => grown.push(format!("{program}: {cell} {what}, recorded: {recorded}")),
            Record::NoRow => grown.push(format!("{program}: {cell} {what}, no row")),
            Record::NoColumn => println!("NOT RECORDED {program}: {cell} {what} on kernel {}", recorded::series()),
        }
    }
    assert!(grown.is_empty(), "more than {GROWTH} % above {}:\n{}", recorded::HINT, grown.join("\n"));
}

const SEPARATOR: &str = " / ";

/// True if no figure has grown by more than it may.
fn fits(now: &[u32], recorded: &str) -> bool {
    let recorded: Vec<_> = recorded.split(SEPARATOR).map(str::parse::<u32>).collect();
    let within = |now: u32, limit: u32| u64::from(now) * 100 <= u64::from(limit) * (100 + GROWTH);
    let each = now.iter().zip(&recorded);
    now.len() == recorded.len()
        && each.into_iter().all(|(now, limit)| limit.as_ref().is_ok_and(|limit| within(*now, *limit)))
}

#[test]
fn any_of_several_figures_that_grows_by_more_than_a_twentieth_is_too_much() {
    assert!(fits(&[105, 21], "100 / 20") && fits(&[1, 1], "100 / 20"));
    for (now, recorded) in [(&[106, 20][..], "100 / 20"), (&[100, 22], "100 / 20"), (&[100], "100 / 20"), (&[1], "")] {
        assert!(!fits(now, recorded), "{now:?} {recorded}");
    }
}

/// A probe that errs is found here, too: what it says of the kernel must agree with what is seen in force.
#[test]
fn recorded_features_are_those_of_this_kernel() {
    let table = Table::named("features");
    let mut wrong = Vec::new();
    for (feature, seen) in &FOUND.features {
        let row = [feature.name, feature.since, feature.without].join(" | ");
        let cell = format!("{}: {}", if feature.here { "yes" } else { "no" }, seen.what);
        assert_eq!(feature.here, seen.itself, "{}: probed, and seen in force: {cell}", feature.name);
        if recorded::is_written() {
            table.write(&row, &cell);
            continue;
        }
        match table.read(&row) {
            Record::Here(recorded) if recorded == cell => {}
            Record::NoColumn => println!("NOT RECORDED {}: {cell} on kernel {}", feature.name, recorded::series()),
            other => wrong.push(format!("{row}: {cell}, recorded: {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "not as in {}:\n{}", recorded::HINT, wrong.join("\n"));
}
