//! Listening sockets on their way from one process to the next.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use super::message::{Label, Role};

/// Duplicates of every listening socket of this process, kept to be handed over. An address goes on taking
/// connections as long as one of them is open, so a drain lets go of them first.
#[derive(Debug, Default)]
pub struct Held(Mutex<Vec<(Label, OwnedFd)>>);

impl Held {
    /// Adds a socket, by the address that was configured.
    pub fn add(&self, role: Role, address: String, socket: OwnedFd) {
        self.lock().push((Label { role, address }, socket));
    }

    /// Lets go of them.
    pub fn close(&self) {
        self.lock().clear();
    }

    /// Returns duplicates of all.
    pub(super) fn duplicates(&self) -> std::io::Result<Vec<(Label, OwnedFd)>> {
        let duplicate = |(label, socket): &(Label, OwnedFd)| Ok((label.clone(), socket.try_clone()?));
        self.lock().iter().map(duplicate).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Label, OwnedFd)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sockets that another process has handed over, until they are claimed.
#[derive(Debug, Default)]
pub struct Inherited(Vec<(Label, OwnedFd)>);

impl Inherited {
    pub(super) fn new(sockets: Vec<(Label, OwnedFd)>) -> Self {
        Self(sockets)
    }

    /// Takes the socket of an address, as it is configured here. An address may change its role; one with
    /// port 0 may not, since it does not say which socket is meant.
    pub fn claim(&mut self, role: Role, address: &str) -> Option<OwnedFd> {
        let is_exact = !address.ends_with(":0");
        let place = self.0.iter().position(|(label, _)| {
            label.address == address && (label.role == role || is_exact && label.role != Role::Forward)
        })?;
        Some(self.0.remove(place).1)
    }

    /// Takes what passes requests of the Admin API on.
    pub fn claim_forward(&mut self) -> Option<OwnedFd> {
        self.claim(Role::Forward, "")
    }

    /// Returns the addresses that nobody has claimed.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(label, _)| &*label.address)
    }
}

/// Splits sockets into messages of a size: the labels with their descriptors.
pub(super) fn batches(
    sockets: &[(Label, OwnedFd)],
    size: usize,
) -> impl Iterator<Item = (Vec<Label>, Vec<BorrowedFd<'_>>)> {
    use std::os::fd::AsFd as _;
    sockets.chunks(size).map(|batch| {
        let labels = batch.iter().map(|(label, _)| label.clone());
        let descriptors = batch.iter().map(|(_, socket)| socket.as_fd());
        (labels.collect(), descriptors.collect())
    })
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener};

    use super::*;

    /// Makes sockets with these labels, and returns the real addresses too.
    fn inherited(labels: &[(Role, &str)]) -> (Inherited, Vec<SocketAddr>) {
        let mut addresses = Vec::new();
        let sockets = labels.iter().map(|(role, address)| {
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            addresses.push(socket.local_addr().unwrap());
            let label = Label {
                role: *role,
                address: (*address).to_owned(),
            };
            (label, OwnedFd::from(socket))
        });
        let sockets = sockets.collect();
        (Inherited(sockets), addresses)
    }

    fn check(labels: &[(Role, &str)], claims: &[(Role, &str, Option<usize>)], left: &[&str]) {
        let (mut inherited, addresses) = inherited(labels);
        for (role, address, expected) in claims {
            let claimed = inherited.claim(*role, address);
            let found = claimed.map(|socket| TcpListener::from(socket).local_addr().unwrap());
            assert_eq!(
                found,
                expected.map(|place| addresses[place]),
                "{role:?} {address}"
            );
        }
        assert_eq!(inherited.addresses().collect::<Vec<_>>(), left);
    }

    #[test]
    fn an_address_is_claimed_once_whatever_it_was_for() {
        use Role::{Admin, Proxy, Status};
        check(
            &[(Proxy, "a:80"), (Status, "a:81"), (Admin, "a:82")],
            &[
                (Admin, "a:81", Some(1)),
                (Status, "a:81", None),
                (Proxy, "a:80", Some(0)),
            ],
            &["a:82"],
        );
    }

    #[test]
    fn any_port_is_claimed_by_the_role_and_in_order() {
        use Role::{Admin, Proxy, Status};
        check(
            &[(Proxy, "a:0"), (Proxy, "a:0"), (Status, "a:0")],
            &[
                (Status, "a:0", Some(2)),
                (Admin, "a:0", None),
                (Proxy, "a:0", Some(0)),
                (Proxy, "a:0", Some(1)),
                (Proxy, "a:0", None),
            ],
            &[],
        );
    }
}
