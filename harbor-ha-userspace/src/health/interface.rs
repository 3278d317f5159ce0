//! Interfaces, by name: up with carrier, or not. One that is not there is down; it may come, go, and come back.

use std::io;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::LinkFlags;
use rtnetlink::{Handle, MulticastGroup};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Fact, TrackerId, Value, say};

/// Between two looks when no event comes: events can be lost (`ENOBUFS`), so they only make a look come sooner.
const LOOK: Duration = Duration::from_secs(1);
/// Between two looks however many events come: a host that makes a thousand interfaces says so a thousand times.
const REST: Duration = Duration::from_millis(10);
/// One answer of the kernel; it waits for a lock that others hold while they make or remove interfaces.
const ANSWER: Duration = Duration::from_secs(2);

/// An interface.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Whose facts these are.
    pub tracker: TrackerId,
    /// Its name.
    pub name: String,
}

/// Follows all interfaces; ends when nobody listens.
pub(super) async fn watch(interfaces: Vec<Interface>, facts: mpsc::Sender<Fact>) {
    let mut said = vec![None; interfaces.len()];
    let mut told = false;
    loop {
        match follow(&interfaces, &facts, &mut said).await {
            Ok(()) => return,
            // What was said last stays true until something else is known.
            Err(error) if !told => {
                tracing::error!(%error, "no netlink: interfaces cannot be watched; tried again each second")
            }
            Err(_) => {}
        }
        told = true;
        sleep(LOOK).await;
    }
}

/// `Ok` when nobody listens any more.
async fn follow(interfaces: &[Interface], facts: &mpsc::Sender<Fact>, said: &mut [Option<bool>]) -> io::Result<()> {
    // Before the first look, so that nothing falls between the two.
    let (_ends_it, mut events) = events()?;
    // Without multicast groups: what is asked and answered here cannot be crowded out by events.
    let (connection, handle, _) = rtnetlink::new_connection()?;
    let asking = Task(tokio::spawn(connection));
    loop {
        for (interface, said) in interfaces.iter().zip(&mut *said) {
            let up = match timeout(ANSWER, up(&handle, &interface.name)).await {
                Ok(Ok(up)) => up,
                Ok(Err(error)) if asking.0.is_finished() => return Err(io::Error::other(error)),
                // Refused for the moment (out of memory), or slow; an interface is not gone by that.
                Ok(Err(_)) | Err(_) => continue,
            };
            if *said != Some(up) {
                *said = Some(up);
                let value = if up { Value::Ok } else { Value::Failed };
                if say(facts, interface.tracker, value).await.is_err() {
                    return Ok(());
                }
            }
        }
        sleep(REST).await;
        let next = sleep_until(Instant::now() + LOOK);
        tokio::pin!(next);
        loop {
            tokio::select! {
                biased;
                event = events.next() => match event {
                    Some((message, _)) if is_link(&message.payload) => break,
                    Some(_) => {}
                    None => return Err(io::Error::other("the subscription has ended")),
                },
                () = facts.closed() => return Ok(()),
                () = &mut next => break,
            }
        }
    }
}

async fn up(handle: &Handle, name: &str) -> Result<bool, rtnetlink::Error> {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    match links.try_next().await {
        // `IFF_LOWER_UP` is carrier; a veth whose other end is down has none.
        Ok(Some(link)) => Ok(link.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp)),
        Ok(None) => Ok(false),
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ENODEV => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_link(payload: &NetlinkPayload<RouteNetlinkMessage>) -> bool {
    matches!(payload, NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(_) | RouteNetlinkMessage::DelLink(_)))
}

/// A task that ends with whoever holds this.
struct Task<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Event = (NetlinkMessage<RouteNetlinkMessage>, rtnetlink::sys::SocketAddr);

fn events() -> io::Result<(Task<()>, impl Stream<Item = Event> + Unpin)> {
    let (connection, _, messages) = rtnetlink::new_multicast_connection(&[MulticastGroup::Link])?;
    Ok((Task(tokio::spawn(connection)), messages))
}
