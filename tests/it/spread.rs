//! Connections over workers, counted where the kernel lists them: each worker waits with an epoll instance of its
//! own, and `/proc` says for which sockets.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};

use crate::harness::{Gateway, Origin, shop, wait_until};

const COUNT: usize = 200;

/// The inodes of the connections that were accepted at an address.
fn accepted_at(address: SocketAddr) -> BTreeSet<u64> {
    let local = format!("0100007F:{:04X}", address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let lines = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    // `st` 01 is ESTABLISHED. One that waits in the queue has no inode yet.
    let accepted = lines.filter(|fields| fields[1] == local && fields[3] == "01");
    accepted
        .map(|fields| fields[9].parse().unwrap())
        .filter(|inode| *inode != 0)
        .collect()
}

/// How many of these connections each worker has.
fn by_worker(process: u32, connections: &BTreeSet<u64>) -> Vec<usize> {
    let mut sets = BTreeSet::new();
    for descriptor in std::fs::read_dir(format!("/proc/{process}/fdinfo"))
        .unwrap()
        .flatten()
    {
        let text = std::fs::read_to_string(descriptor.path()).unwrap_or_default();
        let inodes = text
            .lines()
            .filter(|line| line.starts_with("tfd:"))
            .filter_map(|line| {
                let inode = line.split("ino:").nth(1)?.split_whitespace().next()?;
                u64::from_str_radix(inode, 16).ok()
            });
        // An instance has several descriptors.
        sets.insert(
            inodes
                .filter(|inode| connections.contains(inode))
                .collect::<BTreeSet<_>>(),
        );
    }
    sets.iter().map(BTreeSet::len).filter(|len| *len > 0).collect()
}

#[test]
fn connections_are_spread_over_the_workers() {
    let origin = Origin::start("a");
    let gateway = Gateway::start(&format!("server:\n  threads: 2\n{}", shop(&[(&origin, 1)])));
    let _open: Vec<TcpStream> = (0..COUNT)
        .map(|_| TcpStream::connect(gateway.address()).unwrap())
        .collect();
    let workers = wait_until("all are accepted", || {
        let connections = accepted_at(gateway.address());
        let workers = by_worker(gateway.id(), &connections);
        (workers.iter().sum::<usize>() == COUNT).then_some(workers)
    });
    // A worker that does not get a core at once leaves some to the other: without taking turns one has got nearly all.
    assert_eq!(workers.len(), 2, "{workers:?}");
    assert!(workers.iter().all(|count| *count >= COUNT / 3), "{workers:?}");
}
