//! Builds the parts, starts them in order, ends them in order. The only file that knows every part.
//!
//! Start: configuration compiled → (sockets asked for from the running process) → names looked up and Targets probed (bounded) → sockets bound → workers accept →
//! ready. Whatever goes wrong before the workers run is an error of `serin run`, and nothing has
//! been served by then.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use log::{info, warn};
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownWatch};
use pingora::services::background::BackgroundService;
use tokio::runtime::Runtime;

use crate::admin::{AdminService, Gate, StatusService, TokenError};
use crate::config::reload::{Fingerprint, Reload, Source, with_causes};
use crate::config::{Known, Loaded, load};
use crate::control::{Keeper, RefusedError};
use crate::descriptors;
use crate::edge::{BindError, Listener, Shared, Spread, Worker};
use crate::health::{HealthService, Observed, dns};
use crate::lifecycle::{Intake, Lifecycle, SignalWatch};
use crate::model::{self, ListenAddress, Settings};
use crate::notify;
use crate::priority::yield_to_requests;
use crate::rollout;
use crate::snapshot::Published;
use crate::store::{Embedded, Memory, Store, StoreError};
use crate::supervise::{count_panics, part};
use crate::tls;
use crate::upgrade::{
    Estate, Held, Inherited, Launch, PlaceError, Role, Start, TakeOverError, Takeover, UpgradeService,
};

/// Idle connections to Targets that a worker keeps. Pingora's 128 are one list for all Upstreams:
/// with more connections than that in use it thrashes and a request costs twice the CPU. The list
/// costs nothing while it is empty.
const UPSTREAM_POOL: usize = 8192;
/// Where clients are served by TLS too, when no listeners are set and there is a certificate.
const DEFAULT_TLS_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8443);
/// Beyond every Service's `retries` (at most 32767), which is what bounds a request's tries.
const MAX_TRIES: usize = 40_000;
/// Beyond every drain deadline: the drain ends the process itself.
const GRACE_SECONDS: u64 = 365 * 24 * 3600;

/// The proxy could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be put in force.
    #[error(transparent)]
    Refused(#[from] RefusedError),
    /// The token of the Admin API cannot be read.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Pingora would not find whom to trust.
    #[error(transparent)]
    Authorities(#[from] tls::SystemAuthoritiesError),
    /// TLS cannot be set up.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    /// The socket for upgrades cannot be made.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The running process does not hand over.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
    /// The system refused something else.
    #[error("cannot start")]
    System(#[from] std::io::Error),
}

impl StartError {
    /// Returns a way out, where the error does not name one.
    pub fn hint(&self) -> Option<&'static str> {
        let error = match self {
            Self::Bind(error) => error,
            Self::Authorities(error) => return Some(error.hint()),
            _ => return None,
        };
        let cause = std::error::Error::source(error)?.downcast_ref::<std::io::Error>()?;
        match cause.kind() {
            ErrorKind::AddrInUse => Some(
                "another process listens there: stop it, choose another address, or start with --upgrade to take over from a running serin",
            ),
            ErrorKind::PermissionDenied => Some(
                "ports below 1024 need a privilege: choose a port from 1024 up, or give the process CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities)",
            ),
            ErrorKind::AddrNotAvailable => Some(
                "no interface of this host has the address: choose one that `ip address` shows, or 0.0.0.0 or [::] for all",
            ),
            _ => None,
        }
    }
}

/// Runs the proxy until it is told to stop; then the process exits. `is_upgrade`: takes over from the process
/// that runs already.
///
/// # Errors
///
/// When it cannot be started. Nothing has been served then, and a process that was to be taken over from goes
/// on as if nothing had been.
pub fn run(source: Source, is_upgrade: bool) -> Result<(), StartError> {
    count_panics();
    let loaded_from = source.fingerprint();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut known = Known::default();
    let loaded = load(&source.paths, &source.overrides, &mut known).map_err(RefusedError::Problems)?;
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    let settings = loaded.configuration.settings.clone();
    descriptors::raise_limit(settings.limits.connections);
    let mut takeover = match is_upgrade {
        true => {
            let path = settings.upgrade_socket().ok_or(TakeOverError::Off)?;
            Some(runtime.block_on(Takeover::begin(&path))?)
        }
        false => None,
    };
    let files = Files {
        source,
        loaded_from,
        certificates: known.certificate_files.clone(),
        loaded,
        known,
    };
    match assemble(files, &settings, &runtime, &mut takeover) {
        Ok((server, watch)) => {
            drop(runtime);
            let shutdown_signal = Box::new(watch);
            server.run(RunArgs { shutdown_signal });
            Ok(())
        }
        Err(error) => {
            if let Some(takeover) = takeover {
                runtime.block_on(takeover.fail(with_causes(&error)));
            }
            Err(error)
        }
    }
}

/// What the files say, and where that comes from.
struct Files {
    source: Source,
    /// Fingerprint from before they were read.
    loaded_from: Fingerprint,
    /// That of the certificates that they name.
    certificates: Fingerprint,
    loaded: Loaded,
    known: Known,
}

/// Builds every part. Takes the takeover once nothing can go wrong any more.
fn assemble(
    files: Files,
    settings: &Settings,
    runtime: &Runtime,
    takeover: &mut Option<Takeover>,
) -> Result<(Server, SignalWatch), StartError> {
    tls::check_system_authorities()?;
    let observed = Arc::new(Observed::default());
    let store = open_store(&settings.store).map_err(RefusedError::Store)?;
    let keeper = runtime.block_on(async {
        let resolver = dns::resolver(&settings.dns);
        let source = files.source.clone();
        Keeper::start(
            source,
            files.loaded,
            files.known,
            store,
            observed.clone(),
            &resolver,
        )
        .await
    })?;
    let (published, door, store) = (keeper.published(), keeper.door(), keeper.store());
    let health = HealthService::new(published.clone(), observed.clone());
    runtime.block_on(health.run_first_pass());

    let workers = worker_count(settings);
    let mut wanted = settings.listeners.clone();
    let has_certificate = !published.peek(|snapshot| snapshot.certificates.is_empty());
    if has_certificate && wanted == Settings::default().listeners {
        wanted.push(model::Listener::https(DEFAULT_TLS_ADDRESS));
    }
    let held = Arc::new(Held::default());
    let mut inherited = takeover.as_mut().map(|takeover| &mut takeover.sockets);
    let mut listen = |role, address: &ListenAddress| listen(role, address, &held, inherited.as_deref_mut());
    let listeners = (wanted.iter())
        .map(|listener| Ok((listen(Role::Proxy, &listener.address)?, listener.clone())))
        .collect::<Result<Vec<_>, StartError>>()?;
    let status = (settings.status)
        .map(|address| listen(Role::Status, &ListenAddress::Inet(address)))
        .transpose()?;
    let admin = match &settings.admin {
        Some(admin) => {
            let address = ListenAddress::Inet(admin.address);
            Some((listen(Role::Admin, &address)?, admin.clone()))
        }
        None => None,
    };
    let forwarded = inherited.and_then(Inherited::claim_forward);
    let start = match takeover {
        Some(_) => None,
        None => Some(Start::listening(
            settings.upgrade.as_ref(),
            settings.upgrade_socket(),
        )?),
    };
    for (listener, _) in &listeners {
        info!("listening on {}", listener.address());
    }

    let intake = match takeover {
        Some(_) => Intake::Waiting,
        None => Intake::Open,
    };
    let lifecycle = Arc::new(Lifecycle::new(workers + OTHER_PARTS, intake));
    let reload = Reload::new(files.source, door.clone(), files.loaded_from, files.certificates);
    let mut server = Server::new_with_opt_and_conf(None, pingora_conf());
    server.bootstrap();
    server.add_service(part("health", health, &lifecycle));
    let control = Control {
        observed: observed.clone(),
        keeper: tokio::sync::Mutex::new(keeper),
        reload,
        store: store.clone(),
        published: published.clone(),
        lifecycle: lifecycle.clone(),
        is_successor: takeover.is_some(),
    };
    server.add_service(part("control", control, &lifecycle));
    let gate = Arc::new(Gate::default());
    if let Some((socket, settings)) = admin {
        info!("admin on {}", socket.address());
        let (of_change, of_now) = (
            (door.clone(), store.clone()),
            (published.clone(), observed.clone()),
        );
        let sockets = (socket.into_std(), forwarded.map(Into::into));
        let admin = AdminService::new(
            sockets,
            settings,
            gate.clone(),
            of_change,
            of_now,
            lifecycle.clone(),
        )?;
        server.add_service(part("admin", admin, &lifecycle));
    }
    if let Some(socket) = status {
        info!("status on {}", socket.address());
        let status = StatusService::new(
            socket.into_std(),
            lifecycle.clone(),
            published.clone(),
            door.clone(),
            observed,
        );
        server.add_service(part("status", status, &lifecycle));
    }
    let tls = tls::Server::new(published.clone(), settings.tls_min_version)?;
    let shared = Shared {
        conf: Arc::new(pingora_conf()),
        tls: Arc::new(tls),
        published: published.clone(),
        admission: Arc::default(),
        spread: Spread::over(workers),
        lifecycle: lifecycle.clone(),
    };
    for number in 0..workers {
        server.add_service(Worker::new(number, &shared, &listeners)?);
    }
    let generation = published.current().generation;
    info!("generation {generation} is in force on {workers} workers");
    let estate = Estate {
        sockets: held.clone(),
        gate,
        door,
        store,
        lifecycle: lifecycle.clone(),
    };
    let start = match (start, takeover.take()) {
        (Some(start), _) => start,
        (None, Some(takeover)) => {
            for address in takeover.sockets.addresses() {
                info!("no longer listening on {address}");
            }
            Start::TakingOver(Box::new(takeover), settings.upgrade_socket())
        }
        (None, None) => Start::Closed,
    };
    let upgrade = UpgradeService::new(estate, published.clone(), Launch::of_this_process()?, start);
    server.add_service(part("upgrade", upgrade, &lifecycle));
    let watch = SignalWatch {
        lifecycle,
        published,
        held,
    };
    Ok((server, watch))
}

/// Claims the socket of an address, or binds one.
fn listen(
    role: Role,
    address: &ListenAddress,
    held: &Held,
    inherited: Option<&mut Inherited>,
) -> Result<Listener, StartError> {
    let name = address.to_string();
    let listener = match inherited.and_then(|inherited| inherited.claim(role, &name)) {
        Some(socket) => Listener::inherited(socket)?,
        None => Listener::bind(address)?,
    };
    held.add(role, name, listener.duplicate()?.into());
    Ok(listener)
}

fn open_store(store: &model::Store) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match store {
        model::Store::Embedded(path) => Arc::new(Embedded::open(path)?),
        model::Store::Memory => Arc::new(Memory::default()),
    })
}

fn worker_count(settings: &Settings) -> usize {
    settings
        .threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

fn pingora_conf() -> ServerConf {
    ServerConf {
        threads: 1,
        work_stealing: false,
        upstream_keepalive_pool_size: UPSTREAM_POOL,
        max_retries: MAX_TRIES,
        grace_period_seconds: Some(GRACE_SECONDS),
        ..ServerConf::default()
    }
}

/// What must have started beside the workers before the process is ready, or it would miss a
/// signal and die of it: the watch for changes and SIGHUP, and that for SIGTERM.
const OTHER_PARTS: usize = 2;

/// The control thread: what changes the configuration in force, what names resolve to, how far ramps are.
struct Control {
    observed: Arc<Observed>,
    /// Taken once, by the one thread that runs it.
    keeper: tokio::sync::Mutex<Keeper>,
    reload: Reload,
    store: Arc<dyn Store>,
    published: Arc<Published>,
    lifecycle: Arc<Lifecycle>,
    is_successor: bool,
}

#[async_trait]
impl BackgroundService for Control {
    async fn start(&self, shutdown: ShutdownWatch) {
        yield_to_requests();
        let resolver = &dns::resolver(&self.published.current().source.settings.dns);
        let mut keeper = self.keeper.lock().await;
        let releases = &self.observed.releases;
        tokio::join!(
            keeper.run(resolver, shutdown.clone()),
            dns::run(&self.observed, resolver, &self.published, shutdown.clone()),
            rollout::run(&self.published, releases, &*self.store, shutdown.clone()),
            self.published.free_retired(shutdown.clone()),
            self.reload.run(shutdown, || self.lifecycle.part_started()),
            notify::run(&self.lifecycle, self.is_successor),
        );
    }
}
