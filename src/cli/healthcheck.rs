//! `serin healthcheck`: for images that hold no curl.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

/// How long the proxy may take to answer.
const LIMIT: Duration = Duration::from_secs(3);

/// The status address where none is configured.
const DEFAULT: &str = "127.0.0.1:8007";

/// What `serin healthcheck` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Address of the status listener
    #[arg(long, default_value = DEFAULT, env = "SERIN_SERVER_STATUS_ADDRESS", value_parser = parse_address)]
    pub address: SocketAddr,
}

/// Prints the phase; fails unless it is `ready`.
pub fn run(arguments: &Arguments) -> ExitCode {
    match ask(arguments.address) {
        Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => {
            println!("ready");
            ExitCode::SUCCESS
        }
        Ok(answer) => {
            println!("{}", answer.rsplit("\r\n\r\n").next().unwrap_or(&answer));
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("{}: {error}", arguments.address);
            ExitCode::FAILURE
        }
    }
}

/// An empty variable counts as not set, as it does for `serin run`.
fn parse_address(text: &str) -> Result<SocketAddr, String> {
    match text {
        "" => parse_address(DEFAULT),
        "false" => Err("the status listener is switched off, so there is nothing to ask".to_owned()),
        text => text
            .parse()
            .map_err(|_| "expected an address and a port".to_owned()),
    }
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"GET /status/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
