//! A name server: answers what the test tells it to, over UDP (RFC 1035).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use super::Watched;

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;

/// What is answered for a name.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Addresses of both families, with this time to live in seconds.
    Addresses(Vec<IpAddr>, u32),
    /// SRV records: priority, weight, port, name of the host.
    Services(Vec<(u16, u16, u16, &'static str)>, u32),
    /// The name exists and has no records.
    Empty,
    /// The name does not exist.
    NoSuchName,
    /// The server cannot tell (SERVFAIL).
    Failure,
    /// Nothing comes back.
    Silence,
}

/// A name server on a port of its own.
pub struct NameServer {
    /// Where it listens.
    pub address: SocketAddr,
    answers: Arc<Watched<HashMap<String, Answer>>>,
}

impl NameServer {
    /// Starts a server that knows no name.
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let answers = Arc::new(Watched::new(HashMap::new()));
        let shared = answers.clone();
        std::thread::spawn(move || serve(&socket, &shared));
        Self { address, answers }
    }

    /// Sets what is answered for a name from now on.
    pub fn answer(&self, name: &str, answer: Answer) {
        self.answers
            .change(|answers| drop(answers.insert(name.to_owned(), answer)));
    }
}

fn serve(socket: &UdpSocket, answers: &Watched<HashMap<String, Answer>>) {
    let mut packet = [0; 1500];
    while let Ok((length, client)) = socket.recv_from(&mut packet) {
        let Some((name, kind, question)) = read_question(&packet[..length]) else {
            continue;
        };
        let answer = answers.lock().get(&name).cloned().unwrap_or(Answer::NoSuchName);
        if let Some(reply) = reply(&packet, question, kind, &answer) {
            let _ = socket.send_to(&reply, client);
        }
    }
}

/// Returns the name asked for, the type, and the bytes of the question.
fn read_question(packet: &[u8]) -> Option<(String, u16, &[u8])> {
    let mut at = 12;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*packet.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(packet.get(at..at + length)?).to_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]);
    Some((labels.join("."), kind, packet.get(12..at + 4)?))
}

fn reply(query: &[u8], question: &[u8], kind: u16, answer: &Answer) -> Option<Vec<u8>> {
    let (code, records): (u8, Vec<(u16, u32, Vec<u8>)>) = match answer {
        Answer::Silence => return None,
        Answer::Failure => (2, vec![]),
        Answer::NoSuchName => (3, vec![]),
        Answer::Empty => (0, vec![]),
        Answer::Addresses(addresses, ttl) => {
            let records = addresses.iter().filter_map(|address| match (address, kind) {
                (IpAddr::V4(address), A) => Some((A, *ttl, address.octets().to_vec())),
                (IpAddr::V6(address), AAAA) => Some((AAAA, *ttl, address.octets().to_vec())),
                _ => None,
            });
            (0, records.collect())
        }
        Answer::Services(services, ttl) if kind == SRV => {
            let records = services.iter().map(|(priority, weight, port, host)| {
                let mut data: Vec<u8> = [priority, weight, port]
                    .iter()
                    .flat_map(|number| number.to_be_bytes())
                    .collect();
                for label in host.split('.') {
                    data.push(label.len() as u8);
                    data.extend(label.as_bytes());
                }
                data.push(0);
                (SRV, *ttl, data)
            });
            (0, records.collect())
        }
        Answer::Services(..) => (0, vec![]),
    };
    let mut reply = query[..2].to_vec();
    reply.extend([0x81, 0x80 | code, 0, 1]);
    reply.extend((records.len() as u16).to_be_bytes());
    reply.extend([0, 0, 0, 0]);
    reply.extend(question);
    for (kind, ttl, data) in records {
        // The name is the question's, which begins at byte 12.
        reply.extend([0xc0, 12]);
        reply.extend(kind.to_be_bytes());
        reply.extend([0, 1]);
        reply.extend(ttl.to_be_bytes());
        reply.extend((data.len() as u16).to_be_bytes());
        reply.extend(data);
    }
    Some(reply)
}
