//! The sockets of the Admin API and the status address: taken from the predecessor when it has let go of
//! them, and left to the successor.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use log::error;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::lifecycle::{IDLE_GRACE, Intake, Lifecycle};

/// Whom a request comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

impl Connected<IncomingStream<'_, Doorway>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Doorway>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// Takes connections while that is this process's part.
pub(super) struct Doorway {
    socket: Option<tokio::net::TcpListener>,
    intake: watch::Receiver<Intake>,
}

impl Listener for Doorway {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            let intake = *self.intake.borrow_and_update();
            let accepted = async {
                match (intake, &mut self.socket) {
                    (Intake::Open, Some(socket)) => Listener::accept(socket).await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                accepted = accepted => return accepted,
                changed = self.intake.changed() => {
                    if changed.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            }
            if *self.intake.borrow() == Intake::Closed {
                self.socket = None;
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        match &self.socket {
            Some(socket) => socket.local_addr(),
            None => Err(std::io::ErrorKind::NotConnected.into()),
        }
    }
}

/// Serves until the process ends, so that a drain can be watched, or until a successor has taken over and
/// the last connection is closed.
pub(super) async fn serve(socket: TcpListener, routes: Router, lifecycle: Arc<Lifecycle>, what: &str) {
    let mut intake = lifecycle.intake();
    let _hold = lifecycle.hold();
    let served = match tokio::net::TcpListener::from_std(socket) {
        Ok(socket) => {
            let doorway = Doorway {
                socket: Some(socket),
                intake: lifecycle.intake(),
            };
            let is_over = async move {
                // What has been sent to this process already is answered by it.
                let _ = intake.wait_for(|intake| *intake == Intake::Closed).await;
                tokio::time::sleep(IDLE_GRACE).await;
            };
            axum::serve(doorway, routes.into_make_service_with_connect_info::<Peer>())
                .with_graceful_shutdown(is_over)
                .await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        error!("the {what} address is no longer served: {error}");
    }
}
