//! A proxy on Pingora that does nothing but forward: the floor of what Serin can cost.
//!
//! It has Serin's settings (allocator, single-thread workers that share nothing but the listening socket, pool of
//! connections, read buffer, limits of a connection) and none of its work: one pool, Pingora's own weighted round
//! robin, X-Forwarded-For. No router, no plugin, no metric, no log, no check of what a client sends.
//!
//! `bench-bare WORKERS ADDRESS TARGET=WEIGHT... [CERTIFICATE KEY]` listens there, with TLS if there is a certificate,
//! and serves until it is killed.

mod forward;
mod tls;
mod worker;

use std::error::Error;
use std::sync::Arc;

use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server};

use crate::forward::Forward;
use crate::worker::Worker;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Serin's, see its `server.rs`.
const UPSTREAM_POOL: usize = 8192;

const USAGE: &str = "usage: bench-bare WORKERS ADDRESS TARGET=WEIGHT... [CERTIFICATE KEY]";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [workers, address, rest @ ..] = arguments.as_slice() else {
        return Err(USAGE.into());
    };
    let workers: usize = workers.parse()?;
    let (targets, files): (Vec<&String>, Vec<&String>) = rest.iter().partition(|one| one.contains('='));
    let targets = targets
        .iter()
        .filter_map(|one| one.split_once('='))
        .map(|(target, weight)| Ok((target, weight.parse()?)))
        .collect::<Result<Vec<(&str, usize)>, Box<dyn Error>>>()?;
    let tls = match files.as_slice() {
        [] => None,
        [certificate, key] => Some(Arc::new(tls::acceptor(certificate, key)?)),
        _ => return Err(USAGE.into()),
    };
    let socket = worker::bind(address.parse()?)?;

    let shared = Arc::new(pingora_conf());
    let mut server = Server::new_with_opt_and_conf(None, pingora_conf());
    server.bootstrap();
    for number in 0..workers {
        let forward = Forward::new(&targets)?;
        server.add_service(Worker::new(number, &shared, forward, &socket, tls.clone())?);
    }
    server.run(RunArgs::default());
    Ok(())
}

fn pingora_conf() -> ServerConf {
    ServerConf {
        threads: 1,
        work_stealing: false,
        upstream_keepalive_pool_size: UPSTREAM_POOL,
        ..ServerConf::default()
    }
}
