//! The HTTP server, on a thread of its own, so that it can be started from any test and from the binary.

use std::{
    io,
    net::SocketAddr,
    ops::Deref,
    sync::{Arc, mpsc},
    thread::JoinHandle,
};

use actix_web::{App, HttpServer, dev::ServerHandle, rt::System, web};
use domain::clock::{Clock, SystemClock};
use service_kit::ops_http;

use crate::{
    admin,
    callbacks::{CallbackSettings, Callbacks, send_all},
    control::Control,
    dialect::{Shared, generic, stripe, toss},
    faults::Latency,
    respond::keep_connection,
    state::Limits,
};

/// Connections at once.
const CONNECTIONS_MAX: usize = 4_096;

/// How to start.
#[derive(Clone)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: String,
    /// The key that all dialects ask for.
    pub api_key: String,
    /// How long calls take at first.
    pub latency: Latency,
    /// Bounds of what is remembered.
    pub limits: Limits,
    /// Callbacks to the merchant.
    pub callbacks: CallbackSettings,
    /// The simulator's clock.
    pub clock: Arc<dyn Clock>,
}

impl Options {
    /// The key that tests use.
    pub const API_KEY: &str = "sk_simulator";
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:0".to_owned(),
            api_key: Self::API_KEY.to_owned(),
            latency: Latency::default(),
            limits: Limits::default(),
            callbacks: CallbackSettings::default(),
            clock: Arc::new(SystemClock),
        }
    }
}

/// A running simulator; it ends when this is dropped. Everything of [`Control`] can be called on it.
pub struct Simulator {
    control: Control,
    address: SocketAddr,
    server: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

impl Deref for Simulator {
    type Target = Control;
    fn deref(&self) -> &Control {
        &self.control
    }
}

impl Simulator {
    /// Starts one on a free port of the loopback interface.
    ///
    /// # Errors
    /// It cannot listen.
    pub fn start() -> io::Result<Self> {
        Self::start_with(Options::default())
    }

    /// Starts one as told.
    ///
    /// # Errors
    /// It cannot listen there.
    pub fn start_with(options: Options) -> io::Result<Self> {
        service_kit::install_crypto_provider();
        let (callbacks, outbound) = Callbacks::new(options.callbacks);
        let control = Control::new(options.limits, options.clock, callbacks);
        control.set_latency(options.latency);
        let shared = Shared { control: control.clone(), api_key: options.api_key };
        let listen = options.listen;
        let (started, wait) = mpsc::sync_channel::<io::Result<(SocketAddr, ServerHandle)>>(1);
        let thread = std::thread::Builder::new().name("pg-simulator".to_owned()).spawn(move || {
            System::new().block_on(async move {
                let server = match serve(&listen, shared) {
                    Ok((server, address)) => {
                        let _ = started.send(Ok((address, server.handle())));
                        server
                    }
                    Err(error) => {
                        let _ = started.send(Err(error));
                        return;
                    }
                };
                let sender = actix_web::rt::spawn(send_all(outbound));
                if let Err(error) = server.await {
                    tracing::error!(%error, "the simulator ended");
                }
                sender.abort();
            });
        })?;
        let (address, server) = wait.recv().map_err(|_| io::Error::other("the simulator's thread ended"))??;
        Ok(Self { control, address, server, thread: Some(thread) })
    }

    /// Its address, such as `http://127.0.0.1:40001`; the admin API begins at `/admin`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The base address of the generic dialect, for a provider's settings.
    #[must_use]
    pub fn generic_url(&self) -> String {
        format!("{}/generic", self.url())
    }

    /// The base address of the Toss dialect.
    #[must_use]
    pub fn toss_url(&self) -> String {
        format!("{}/toss", self.url())
    }

    /// The base address of the Stripe dialect.
    #[must_use]
    pub fn stripe_url(&self) -> String {
        format!("{}/stripe", self.url())
    }

    /// The simulator from behind, to be kept apart from it.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Whether it still serves.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        // The future tells the server's thread to stop when it is made; nothing has to be awaited for that.
        drop(self.server.stop(false));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(listen: &str, shared: Shared) -> io::Result<(actix_web::dev::Server, SocketAddr)> {
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(shared.clone()))
            .configure(generic::configure)
            .configure(toss::configure)
            .configure(stripe::configure)
            .configure(admin::configure)
    })
    // One worker: what a call does is done without a pause in between, so that one key is never used twice at once.
    .workers(1)
    .max_connections(CONNECTIONS_MAX)
    .on_connect(keep_connection)
    .disable_signals()
    .shutdown_timeout(0)
    .bind(listen)
    .map_err(|error| ops_http::cannot_listen(listen, &error))?;
    let address = server.addrs().into_iter().next().ok_or_else(|| io::Error::other("no address"))?;
    Ok((server.run(), address))
}
