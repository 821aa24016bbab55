//! Who may have how many connections: so many in all, and so many from one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bits of an IPv6 address that say whose network it is; the others its owner chooses, as many as it likes.
const IPV6_NETWORK_BITS: u32 = 64;

/// How many are told at once that there is no room; further ones wait in the system's backlog.
const TURNED_AWAY_MAX: usize = 64;

/// Open connections by address; an address with none has no entry, so that there are as many as connections at most.
type Peers = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// The connections of a port.
#[derive(Debug)]
pub(super) struct Gate {
    slots: Arc<Semaphore>,
    porters: Arc<Semaphore>,
    connections_max: usize,
    per_peer_max: usize,
    peers: Peers,
}

impl Gate {
    pub(super) fn new(connections_max: usize, per_peer_max: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS))),
            porters: Arc::new(Semaphore::new(TURNED_AWAY_MAX)),
            connections_max,
            per_peer_max,
            peers: Arc::default(),
        }
    }

    /// Most connections at once.
    pub(super) fn connections_max(&self) -> usize {
        self.connections_max
    }

    /// Waits for somebody to open the next connection: it may have to be told that there is no room.
    ///
    /// # Cancel safety
    /// Nothing is taken.
    pub(super) async fn porter(&self) -> Option<OwnedSemaphorePermit> {
        self.porters.clone().acquire_owned().await.ok()
    }

    /// Room for one more, whosever it is; none if all is taken.
    pub(super) fn slot(&self) -> Option<OwnedSemaphorePermit> {
        self.slots.clone().try_acquire_owned().ok()
    }

    /// A connection from `peer` (none: by the Unix socket, which belongs to this host's users); none if it has too many.
    pub(super) fn pass(&self, slot: OwnedSemaphorePermit, peer: Option<IpAddr>) -> Option<Pass> {
        let counted = match peer.map(network) {
            None => None,
            Some(address) => {
                let mut peers = self.peers.lock();
                let open = peers.entry(address).or_insert(0);
                if *open >= self.per_peer_max {
                    return None;
                }
                *open += 1;
                Some((self.peers.clone(), address))
            }
        };
        Some(Pass { counted, _slot: slot })
    }
}

/// Who is meant by an address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << (128 - IPV6_NETWORK_BITS))).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// A connection's right to be there, until it is dropped.
#[derive(Debug)]
pub(super) struct Pass {
    counted: Option<(Peers, IpAddr)>,
    _slot: OwnedSemaphorePermit,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let Some((peers, address)) = &self.counted else { return };
        let mut peers = peers.lock();
        if let Some(open) = peers.get_mut(address) {
            *open -= 1;
            if *open == 0 {
                peers.remove(address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(gate: &Gate, peer: Option<&str>) -> Option<Pass> {
        let slot = gate.slot().expect("there is room");
        gate.pass(slot, peer.map(|peer| peer.parse().expect("an address")))
    }

    #[tokio::test]
    async fn an_address_has_its_own_limit_and_all_together_have_another() {
        let gate = Gate::new(4, 2);
        let held = [pass(&gate, Some("10.0.0.1")), pass(&gate, Some("::ffff:10.0.0.1"))];
        assert!(held.iter().all(Option::is_some) && pass(&gate, Some("10.0.0.1")).is_none());
        let others = [pass(&gate, Some("10.0.0.2")), pass(&gate, None)];
        assert!(others.iter().all(Option::is_some));
        assert!(gate.slot().is_none(), "there is no room for a fifth one");
        drop(held);
        assert!(pass(&gate, Some("10.0.0.1")).is_some());
        drop(others);
        assert!(gate.peers.lock().is_empty());
    }

    #[tokio::test]
    async fn an_ipv6_network_is_one_peer() {
        let gate = Gate::new(9, 1);
        let held = pass(&gate, Some("2001:db8:0:1::1"));
        assert!(held.is_some() && pass(&gate, Some("2001:db8:0:1:ffff::2")).is_none());
        assert!(pass(&gate, Some("2001:db8:0:2::1")).is_some());
    }
}
