//! A test double of three services of Alibaba Cloud: VPC (HaVip, EIP), ECS, and the metadata of instances.
//!
//! It judges as the real ones do, as far as that is known from public documentation and from the official SDKs, and is
//! checked with these SDKs from outside (suite `cloud`). Where a code or a detail is in no text that was found, it
//! answers something plausible, and says so in a comment: no client may count on that.
//!
//! | file | what |
//! | --- | --- |
//! | [`scenario`] | what there is at the start |
//! | [`verify`], [`keys`], [`ram`] | signatures, from the specification; keys and tokens; what policies allow |
//! | [`world`] | the state, its transitions, and who is master |
//! | [`api`], [`error`] | the actions and their refusals |
//! | [`metadata`] | the metadata service, with tokens and keys of a role |
//! | [`garp`] | what moves a HaVip: gratuitous ARP on an interface |
//! | [`fault`], [`journal`] | what goes wrong between client and service; what was called |
//! | [`server`], [`admin`], [`remote`] | HTTP; the second listener, and a test's side of it |
//! | [`tamper`] | a proxy that spoils what was signed |
//!
//! One listener serves all three: actions are told apart by their headers, and metadata by its path.

pub mod admin;
pub mod api;
pub mod error;
pub mod fault;
pub mod garp;
pub mod journal;
pub mod keys;
pub mod metadata;
pub mod ram;
pub mod remote;
pub mod scenario;
pub mod server;
pub mod tamper;
pub mod verify;
pub mod world;

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::oneshot;

use metadata::Metadata;
use remote::Remote;
use scenario::Scenario;
use server::{Shared, Side};
use world::World;

/// Between two looks whether a transition is over and a power switch is to be turned.
const TICK: Duration = Duration::from_millis(20);

/// What a double shall be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What there is.
    pub scenario: Scenario,
    /// Where it serves; port 0: any.
    pub listen: Vec<SocketAddr>,
    /// Where tests look at it and break it.
    pub admin: SocketAddr,
    /// The interface whose gratuitous ARP moves HaVips.
    pub garp: Option<String>,
}

/// A double that runs, on a thread of its own, until it is dropped.
pub struct Double {
    shared: Arc<Shared>,
    listen: Vec<SocketAddr>,
    admin: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _garp: Option<garp::Listener>,
}

impl Double {
    /// Starts one in the network namespace of the calling thread.
    ///
    /// # Errors
    /// The scenario contradicts itself, an address is not free, or there is no packet socket.
    pub fn start(settings: &Settings) -> Result<Self> {
        let scenario = &settings.scenario;
        scenario.check()?;
        let metadata = Metadata::new(scenario.hardened, scenario.metadata_of.clone());
        let shared = Arc::new(Shared::new(World::new(scenario), metadata));
        let bind = |address: SocketAddr| -> Result<TcpListener> {
            let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let listeners = settings.listen.iter().map(|address| bind(*address)).collect::<Result<Vec<_>>>()?;
        let admin = bind(settings.admin)?;
        let listen = listeners.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
        let admin_at = admin.local_addr()?;
        let hearer = Arc::clone(&shared);
        let hear = move |address, sender| {
            let now = hearer.now();
            let world = &mut hearer.parts().world;
            world.settle(now);
            world.hear(now, address, sender);
        };
        let garp = settings.garp.as_ref().map(|interface| garp::Listener::start(interface, hear)).transpose()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let own = Arc::clone(&shared);
        let run = move || runtime.block_on(work(own, listeners, admin, stopped));
        let thread = std::thread::Builder::new().name("double".into()).spawn(run)?;
        Ok(Self { shared, listen, admin: admin_at, stop: Some(stop), thread: Some(thread), _garp: garp })
    }

    /// Where it serves, in the order of the settings.
    pub fn listen(&self) -> &[SocketAddr] {
        &self.listen
    }

    /// Where tests look at it.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The way to it for tests of the same machine.
    pub fn remote(&self) -> Remote {
        Remote { admin: self.admin, netns: None }
    }

    /// Every secret and token that it knows: for a test that looks whether one got out.
    pub fn secrets(&self) -> Vec<String> {
        self.shared.parts().world.keys.secrets()
    }

    /// Waits for as long as it runs.
    pub fn wait(mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn work(shared: Arc<Shared>, listeners: Vec<TcpListener>, admin: TcpListener, stopped: oneshot::Receiver<()>) {
    let all = listeners.into_iter().map(|it| (it, Side::Public)).chain([(admin, Side::Admin)]);
    for (listener, side) in all {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => drop(tokio::spawn(server::serve(listener, Arc::clone(&shared), side))),
            Err(error) => eprintln!("double: cannot serve: {error}"),
        }
    }
    tokio::select! {
        _ = stopped => {}
        () = tick(&shared) => {}
    }
}

/// Ends transitions when nobody asks, as a power switch hangs on one.
async fn tick(shared: &Shared) {
    loop {
        tokio::time::sleep(TICK).await;
        let now = shared.now();
        let orders = {
            let world = &mut shared.parts().world;
            world.settle(now);
            std::mem::take(&mut world.orders)
        };
        for order in orders {
            let Some((program, arguments)) = order.split_first() else { continue };
            let mut command = tokio::process::Command::new(program);
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
            match command.status().await {
                Ok(status) if status.success() => {}
                outcome => eprintln!("double: `{}`: {outcome:?}", order.join(" ")),
            }
        }
    }
}
