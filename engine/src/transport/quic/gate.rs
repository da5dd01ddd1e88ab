//! The gate of a listener: how many strangers may shake hands at a time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use super::session::locked;

/// The share of handshakes under way that one address may hold, as a divisor.
const ADDRESS_SHARE: usize = 4;

/// Counts handshakes under way, all of them and per address.
pub(super) struct Gate {
    half_open_max: usize,
    retry_above: usize,
    state: Mutex<GateState>,
}

#[derive(Default)]
struct GateState {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// What becomes of a newcomer.
pub(super) enum Admission {
    /// It may shake hands for as long as the pass lives.
    Enter(Pass),
    /// It shall first prove that its address is its own.
    Prove,
    /// There is no room.
    Full,
}

/// One handshake's place in the gate.
pub(super) struct Pass {
    gate: Arc<Gate>,
    address: IpAddr,
}

impl Gate {
    pub(super) fn new(half_open_max: usize, retry_above: usize) -> Self {
        Self { half_open_max, retry_above, state: Mutex::default() }
    }

    /// Handshakes under way.
    pub(super) fn half_open(&self) -> usize {
        locked(&self.state).total
    }

    /// What becomes of a newcomer from `address`; `proven` if it showed that the address is its
    /// own, `full` if there is no room for another connection anyway.

    pub(super) fn admit(self: &Arc<Self>, address: IpAddr, proven: bool, full: bool) -> Admission {
        let mut state = locked(&self.state);
        // Unproven addresses may be anybody's, so they count against none; they end here as soon
        // as there are more than a few.
        if !proven && state.total >= self.retry_above {
            return Admission::Prove;
        }
        let of_address = state.by_address.get(&address).copied().unwrap_or(0);
        let share = self.half_open_max.div_ceil(ADDRESS_SHARE);
        if full || state.total >= self.half_open_max || (proven && of_address >= share) {
            return Admission::Full;
        }
        state.total += 1;
        *state.by_address.entry(address).or_default() += 1;
        Admission::Enter(Pass { gate: Arc::clone(self), address })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut state = locked(&self.gate.state);
        state.total -= 1;
        if let Some(count) = state.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                state.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn above_a_few_handshakes_newcomers_prove_their_address() {
        let gate = Arc::new(Gate::new(8, 1));
        let first = gate.admit(address(1), false, false);
        assert!(matches!(first, Admission::Enter(_)));
        assert!(matches!(gate.admit(address(2), false, false), Admission::Prove));
        assert!(matches!(gate.admit(address(2), true, false), Admission::Enter(_)));
        drop(first);
        assert!(matches!(gate.admit(address(2), false, false), Admission::Enter(_)));
        assert!(locked(&gate.state).by_address.is_empty());
    }

    #[test]
    fn one_address_cannot_hold_every_handshake() {
        let gate = Arc::new(Gate::new(8, 0));
        let held: Vec<_> = (0..2).map(|_| gate.admit(address(1), true, false)).collect();
        assert!(held.iter().all(|admission| matches!(admission, Admission::Enter(_))));
        assert!(matches!(gate.admit(address(1), true, false), Admission::Full));
        assert!(matches!(gate.admit(address(2), true, false), Admission::Enter(_)));
        assert!(matches!(gate.admit(address(2), true, true), Admission::Full));
    }
}
