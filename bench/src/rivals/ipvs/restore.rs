//! What `ipvsadm --restore` reads, written to the kernel by one socket. A process of its own, so that its namespace, its
//! memory and its time are a tool's like the others'.

use std::{
    io::Read,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    message::{Message, Server},
    netlink::Socket,
};

/// Writes all lines of `input`. Returns how long the kernel was at it: reading is over before.
///
/// # Errors
/// Names the line that is not understood, or that the kernel refuses.
pub fn restore(mut input: impl Read) -> Result<Duration> {
    let mut text = String::new();
    input.read_to_string(&mut text).context("standard input")?;
    let messages = text.lines().map(|line| Ok((line, parse(line)?))).collect::<Result<Vec<_>>>()?;
    let mut socket = Socket::open().context("IPVS cannot be asked: is ip_vs loaded?")?;
    let start = Instant::now();
    for (line, message) in messages {
        socket.ask(message).with_context(|| format!("the kernel refuses {line}"))?;
    }
    Ok(start.elapsed())
}

fn parse(line: &str) -> Result<Message> {
    let words: Vec<_> = line.split(' ').collect();
    let not_understood = || format!("not understood: {line}");
    let [command, protocol, at, rest @ ..] = &words[..] else { bail!(not_understood()) };
    let protocol = match *protocol {
        "-t" => nix::libc::IPPROTO_TCP,
        "-u" => nix::libc::IPPROTO_UDP,
        _ => bail!(not_understood()),
    };
    let address = |text: &str| text.parse::<SocketAddr>().with_context(not_understood);
    let server = Server { address: address(at)?, protocol: protocol as u16 };
    Ok(match (*command, rest) {
        ("-A", ["-s", scheduler]) => Message::add_server(server, scheduler),
        ("-D", []) => Message::delete_server(server),
        ("-a", ["-r", endpoint, "-m", "-w", weight]) => {
            Message::add_endpoint(server, address(endpoint)?, weight.parse()?)
        }
        ("-e", ["-r", endpoint, "-m", "-w", weight]) => {
            Message::set_endpoint(server, address(endpoint)?, weight.parse()?)
        }
        ("-d", ["-r", endpoint]) => Message::delete_endpoint(server, address(endpoint)?),
        _ => bail!(not_understood()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_that_servers_writes_is_understood() {
        let server = Server { address: "10.96.0.10:80".parse().expect("an address"), protocol: 6 };
        let v6 = Server { address: "[fd00::1]:53".parse().expect("an address"), protocol: 17 };
        let endpoint = "192.168.1.11:8080".parse().expect("an address");
        for (line, message) in [
            ("-A -t 10.96.0.10:80 -s rr", Message::add_server(server, "rr")),
            ("-D -u [fd00::1]:53", Message::delete_server(v6)),
            ("-a -t 10.96.0.10:80 -r 192.168.1.11:8080 -m -w 1", Message::add_endpoint(server, endpoint, 1)),
            ("-e -t 10.96.0.10:80 -r 192.168.1.11:8080 -m -w 0", Message::set_endpoint(server, endpoint, 0)),
            ("-d -t 10.96.0.10:80 -r 192.168.1.11:8080", Message::delete_endpoint(server, endpoint)),
        ] {
            assert_eq!(parse(line).expect("understood"), message, "{line}");
        }
    }

    #[test]
    fn a_line_that_is_not_understood_is_named() {
        for line in ["", "-A", "-A -x 10.96.0.10:80 -s rr", "-a -t 10.96.0.10:80 -r nobody -m -w 1"] {
            assert!(parse(line).expect_err(line).to_string().contains(line));
        }
    }
}
