//! Flows that are over make room for others; those that live are never forgotten.

use std::net::SocketAddr;

use aya::{Pod, TestRun, programs::TestRunOptions};
use millrace_common::{
    flow::{Flow, Tuple, timeout},
    sweep::{FRAME, Report},
    verdict::Verdict,
};
use millrace_tests::packet::{Body, Flags, Packet};

use crate::rig::{Cast, Rig, answer, casts};

/// Runs the housekeeping once.
pub(crate) fn sweep(rig: &Rig) -> Report {
    let mut out = [0; FRAME];
    let options = TestRunOptions { data_in: Some(&[0; FRAME]), data_out: Some(&mut out), ..TestRunOptions::new() };
    let result = rig.program("mr_sweep").test_run(options).unwrap();
    assert_eq!(result.return_value.cast_signed(), Report::WRITTEN);
    Report::from_frame(&out).unwrap()
}

/// Lets time pass for every flow, by turning back what they remember.
fn age(rig: &mut Rig, cast: &Cast, seconds: u32) {
    fn turn_back<A>(rig: &mut Rig, map: &str, seconds: u32)
    where
        Tuple<A>: Pod,
        Flow<A>: Pod,
    {
        for (key, mut flow) in rig.entries::<Tuple<A>, Flow<A>>(map) {
            flow.last_seen = flow.last_seen.wrapping_sub(seconds);
            rig.insert(map, key, flow);
        }
    }
    if cast.client.is_ipv4() {
        turn_back::<[u32; 1]>(rig, "CT_V4", seconds);
    } else {
        turn_back::<[u32; 4]>(rig, "CT_V6", seconds);
    }
}

/// Entries of the cast's family: kept and expired.
fn of(cast: &Cast, report: Report) -> (u32, u32) {
    let (mine, other) = if cast.client.is_ipv4() { (report.v4, report.v6) } else { (report.v6, report.v4) };
    assert_eq!((other.kept, other.expired), (0, 0));
    (mine.kept, mine.expired)
}

/// A flow that was answered, and of a connection the client has seen that.
fn open(rig: &Rig, cast: &Cast, opening: &Packet) {
    offer(rig, cast, opening);
    if matches!(opening.body, Body::Tcp { .. }) {
        rig.pod_sends(&Packet::tcp(opening.source, cast.service, Flags::ACK));
    }
}

fn offer(rig: &Rig, cast: &Cast, opening: &Packet) {
    rig.pod_sends(opening);
    rig.pod_is_sent(&answer(opening, cast.one, opening.source));
}

/// Each kind of flow is kept for as long as its own rule says, and not a second less.
#[test]
fn a_flow_is_kept_for_its_time() {
    type Story = fn(&Rig, &Cast, &Packet);
    let connection: Story = |_, _, _| {};
    let half_closed: Story = |rig, cast, syn| {
        rig.pod_sends(&Packet::tcp(syn.source, cast.service, Flags::FIN_ACK));
    };
    let reset: Story = |rig, cast, syn| {
        rig.pod_is_sent(&Packet::tcp(cast.one, syn.source, Flags::RST));
    };
    // What the other side has sent before it hears of a reset says nothing.
    let reset_late: Story = |rig, cast, syn| {
        rig.pod_sends(&Packet::tcp(syn.source, cast.service, Flags::RST));
        rig.pod_is_sent(&Packet::tcp(cast.one, syn.source, Flags::ACK).payload(b"data"));
    };
    let forged: Story = |rig, cast, syn| {
        rig.pod_sends(&Packet::tcp(syn.source, cast.service, Flags::RST));
        rig.pod_sends(&Packet::tcp(syn.source, cast.service, Flags::ACK).payload(b"data"));
        rig.pod_is_sent(&Packet::tcp(cast.one, syn.source, Flags::RST));
        rig.pod_is_sent(&Packet::tcp(cast.one, syn.source, Flags::ACK));
    };
    for cast in casts() {
        let syn = Packet::tcp(cast.client, cast.service, Flags::SYN);
        let question = Packet::udp(cast.client, cast.service, b"question");
        let stories = [
            ("an open connection", syn.clone(), connection, timeout::TCP_ESTABLISHED),
            ("a connection closed by one side", syn.clone(), half_closed, timeout::TCP_CLOSING),
            ("a connection that was reset", syn.clone(), reset, timeout::TCP_CLOSING),
            ("a connection that was reset while it was busy", syn.clone(), reset_late, timeout::TCP_CLOSING),
            ("a connection whose ends go on after resets", syn.clone(), forged, timeout::TCP_ESTABLISHED),
            ("one question and its answer", question, connection, timeout::UDP_ONCE),
        ];
        for (name, opening, story, limit) in stories {
            let mut rig = Rig::new();
            rig.service(&cast, &[(1, cast.one)]);
            open(&rig, &cast, &opening);
            story(&rig, &cast, &opening);
            // A margin for the seconds that this test takes.
            age(&mut rig, &cast, limit - 5);
            assert_eq!(of(&cast, sweep(&rig)), (2, 0), "{name}");
            age(&mut rig, &cast, 6);
            assert_eq!(of(&cast, sweep(&rig)), (0, 2), "{name}");
            assert_eq!(of(&cast, sweep(&rig)), (0, 0), "{name}");
            assert_eq!(rig.count(Verdict::FlowExpired), 2);
        }
    }
}

/// A connection that its client does not take up, as no sender of SYNs with others' addresses does, is kept for as long as it
/// is answered and a minute more, however often the SYN comes again.
#[test]
fn a_connection_that_is_not_taken_up_is_soon_forgotten() {
    for cast in casts() {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one)]);
        let syn = Packet::tcp(cast.client, cast.service, Flags::SYN);
        offer(&rig, &cast, &syn);
        age(&mut rig, &cast, timeout::TCP_OPENING - 5);
        offer(&rig, &cast, &syn);
        age(&mut rig, &cast, timeout::TCP_OPENING - 5);
        assert_eq!(of(&cast, sweep(&rig)), (2, 0), "it was answered again");
        rig.pod_sends(&syn);
        age(&mut rig, &cast, 6);
        assert_eq!(of(&cast, sweep(&rig)), (0, 2));
    }
}

/// A conversation in datagrams is kept longer than a single question.
#[test]
fn a_conversation_in_datagrams_is_kept_longer() {
    for cast in casts() {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one)]);
        let question = Packet::udp(cast.client, cast.service, b"question");
        open(&rig, &cast, &question);
        age(&mut rig, &cast, 3);
        rig.pod_sends(&question);
        age(&mut rig, &cast, timeout::UDP - 5);
        assert_eq!(of(&cast, sweep(&rig)), (2, 0));
        age(&mut rig, &cast, 6);
        assert_eq!(of(&cast, sweep(&rig)), (0, 2));
    }
}

/// A flow whose packets go one way only, for now, is alive in both directions: a download without requests, a log
/// stream without answers.
#[test]
fn traffic_in_one_direction_keeps_both_entries() {
    for cast in casts() {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one)]);
        let syn = Packet::tcp(cast.client, cast.service, Flags::SYN);
        open(&rig, &cast, &syn);
        age(&mut rig, &cast, timeout::TCP_ESTABLISHED + 10);
        rig.pod_is_sent(&Packet::tcp(cast.one, cast.client, Flags::ACK).payload(b"data"));
        assert_eq!(of(&cast, sweep(&rig)), (2, 0));
    }
}

/// Of a thousand flows of which half are over, the other half stays.
#[test]
fn only_what_is_over_goes() {
    for cast in casts() {
        let mut rig = Rig::with_flows(4096);
        rig.service(&cast, &[(1, cast.one)]);
        for port in 1000..2000 {
            let client = SocketAddr::new(cast.client.ip(), port);
            open(&rig, &cast, &Packet::tcp(client, cast.service, Flags::SYN));
            if port % 2 == 0 {
                rig.pod_sends(&Packet::tcp(client, cast.service, Flags::RST));
            }
        }
        age(&mut rig, &cast, timeout::TCP_CLOSING + 1);
        assert_eq!(of(&cast, sweep(&rig)), (1000, 1000));
    }
}
