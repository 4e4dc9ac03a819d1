//! Builds the parts, starts them in order, ends them in order. The only file that knows every part.
//!
//! Start: configuration compiled → names looked up and Targets probed (bounded) → sockets bound → workers accept →
//! ready. Whatever goes wrong before the workers run is an error of `serin run`, and nothing has
//! been served by then.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use log::{info, warn};
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownWatch};
use pingora::services::background::{BackgroundService, background_service};

use crate::admin::{AdminService, StatusService, TokenError};
use crate::config::reload::{Reload, Source};
use crate::config::{Known, load};
use crate::control::{Keeper, RefusedError};
use crate::edge::{BindError, Listener, Shared, Worker};
use crate::health::{HealthService, Observed, dns};
use crate::lifecycle::{Lifecycle, SignalWatch};
use crate::model::{self, ListenAddress, Settings};
use crate::rollout;
use crate::snapshot::Published;
use crate::store::{Embedded, Memory, Store, StoreError};
use crate::tls;

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
    /// TLS cannot be set up.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    /// The system refused something else.
    #[error("cannot start")]
    System(#[from] std::io::Error),
}

/// Runs the proxy until it is told to stop; then the process exits.
///
/// # Errors
///
/// When it cannot be started; nothing has been served then.
pub fn run(source: Source) -> Result<(), StartError> {
    let observed = Arc::new(Observed::default());
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
    let store = open_store(&settings.store).map_err(RefusedError::Store)?;
    let keeper = runtime.block_on(async {
        let resolver = dns::resolver(&settings.dns);
        Keeper::start(source.clone(), loaded, known, store, observed.clone(), &resolver).await
    })?;
    let (published, door, store) = (keeper.published(), keeper.door(), keeper.store());
    let health = HealthService::new(published.clone(), observed.clone());
    runtime.block_on(health.run_first_pass());
    drop(runtime);

    let workers = worker_count(&settings);
    let mut wanted = settings.listeners.clone();
    let has_certificate = !published.peek(|snapshot| snapshot.certificates.is_empty());
    if has_certificate && wanted == Settings::default().listeners {
        wanted.push(model::Listener::https(DEFAULT_TLS_ADDRESS));
    }
    let bind = |listener: &model::Listener| Ok((Listener::bind(&listener.address)?, listener.protocol));
    let listeners = wanted.iter().map(bind);
    let listeners = listeners.collect::<Result<Vec<_>, BindError>>()?;
    let bind = |address: SocketAddr| Listener::bind(&ListenAddress::Inet(address));
    let status = settings.status.map(bind).transpose()?;
    let admin = match &settings.admin {
        Some(admin) => Some((bind(admin.address)?, admin.clone())),
        None => None,
    };
    for (listener, _) in &listeners {
        info!("listening on {}", listener.address());
    }

    let lifecycle = Arc::new(Lifecycle::new(workers + OTHER_PARTS));
    let reload = Reload::new(source, door.clone(), published.clone(), loaded_from);
    let mut server = Server::new_with_opt_and_conf(None, pingora_conf());
    server.bootstrap();
    server.add_service(background_service("health", health));
    let control = Control {
        observed: observed.clone(),
        keeper: tokio::sync::Mutex::new(keeper),
        reload,
        store: store.clone(),
        published: published.clone(),
        lifecycle: lifecycle.clone(),
    };
    server.add_service(background_service("control", control));
    if let Some((socket, settings)) = admin {
        info!("admin on {}", socket.address());
        let (of_change, of_now) = ((door.clone(), store), (published.clone(), observed.clone()));
        let admin = AdminService::new(socket.into_std(), settings, of_change, of_now, lifecycle.clone())?;
        server.add_service(background_service("admin", admin));
    }
    if let Some(socket) = status {
        info!("status on {}", socket.address());
        let status = StatusService::new(
            socket.into_std(),
            lifecycle.clone(),
            published.clone(),
            door,
            observed,
        );
        server.add_service(background_service("status", status));
    }
    let tls = tls::Server::new(published.clone(), settings.tls_min_version)?;
    let shared = Shared {
        conf: Arc::new(pingora_conf()),
        tls: Arc::new(tls),
        published: published.clone(),
        admission: Arc::default(),
        lifecycle: lifecycle.clone(),
    };
    for number in 0..workers {
        server.add_service(Worker::new(number, &shared, &settings.timeouts, &listeners)?);
    }
    // The workers hold duplicates; when the last of those is closed, so is the socket.
    drop(listeners);
    let generation = published.current().generation;
    info!("generation {generation} is in force on {workers} workers");
    server.run(RunArgs {
        shutdown_signal: Box::new(SignalWatch { lifecycle, published }),
    });
    Ok(())
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
}

#[async_trait]
impl BackgroundService for Control {
    async fn start(&self, shutdown: ShutdownWatch) {
        let resolver = &dns::resolver(&self.published.current().source.settings.dns);
        let mut keeper = self.keeper.lock().await;
        let releases = &self.observed.releases;
        tokio::join!(
            keeper.run(resolver, shutdown.clone()),
            dns::run(&self.observed, resolver, &self.published, shutdown.clone()),
            rollout::run(&self.published, releases, &*self.store, shutdown.clone()),
            self.reload.run(shutdown, || self.lifecycle.part_started()),
        );
    }
}
