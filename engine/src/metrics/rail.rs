//! What is seen of the rails of a transfer.

use serde::{Deserialize, Serialize};

/// Most rails that are told of one transfer.
const RAILS_MAX: usize = 16;
/// Longest words of a trouble that are kept, in bytes.
const WHY_BYTES_MAX: usize = 200;

/// What a rail does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RailState {
    /// Its queue pairs are being made and connected.
    Opening,
    /// It is back after a trouble and has to prove itself.
    Trial,
    /// It carries content.
    Up,
    /// It carries nothing.
    Down,
}

impl RailState {
    /// The state's name, as programs read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Trial => "trial",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// A rail of a transfer seen at one moment; numbers count both directions since the transfer began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RailStatus {
    /// Our port and the peer's: `mlx5_0/1 - mlx5_1/1`.
    pub name: String,
    /// What it does.
    pub state: RailState,
    /// Content bytes that it carried.
    pub bytes: u64,
    /// Data messages that it carried.
    pub messages: u64,
    /// Times that it failed.
    pub errors: u64,
    /// What it carries now, in Mb/s.
    pub rate_mbps: u64,
    /// Words of the last trouble, to be escaped before they are shown; empty if there was none.
    pub why: String,
}

/// What is kept of the rails of a session, after those of earlier sessions of the same transfer:
/// numbers add up, and a rail that is no more stays, down.
pub fn add_rails(now: Vec<RailStatus>, earlier: &[RailStatus]) -> Vec<RailStatus> {
    let mut rails = now;
    for rail in &mut rails {
        if let Some(before) = earlier.iter().find(|before| before.name == rail.name) {
            rail.bytes += before.bytes;
            rail.messages += before.messages;
            rail.errors += before.errors;
            if rail.why.is_empty() {
                rail.why.clone_from(&before.why);
            }
        }
        let mut end = rail.why.len().min(WHY_BYTES_MAX);
        while !rail.why.is_char_boundary(end) {
            end -= 1;
        }
        rail.why.truncate(end);
    }
    for before in earlier {
        if !rails.iter().any(|rail| rail.name == before.name) {
            rails.push(RailStatus { state: RailState::Down, rate_mbps: 0, ..before.clone() });
        }
    }
    rails.truncate(RAILS_MAX);
    rails
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rail(name: &str, bytes: u64, why: &str) -> RailStatus {
        RailStatus {
            name: name.to_owned(),
            state: RailState::Up,
            bytes,
            messages: bytes / 10,
            errors: 1,
            rate_mbps: 9,
            why: why.to_owned(),
        }
    }

    #[test]
    fn numbers_go_on_over_sessions_and_a_lost_rail_stays_down() {
        let earlier = [rail("a", 100, "port down"), rail("b", 50, "")];
        let rails = add_rails(vec![rail("c", 1, ""), rail("a", 20, "")], &earlier);
        let seen: Vec<_> = rails.iter().map(|r| (&*r.name, r.state, r.bytes, &*r.why)).collect();
        assert_eq!(
            seen,
            [
                ("c", RailState::Up, 1, ""),
                ("a", RailState::Up, 120, "port down"),
                ("b", RailState::Down, 50, ""),
            ]
        );
        assert_eq!((rails[1].messages, rails[1].errors, rails[2].rate_mbps), (12, 2, 0));
    }

    #[test]
    fn lists_and_words_are_bounded() {
        let many = (0..40).map(|n| rail(&n.to_string(), 1, &"ä".repeat(300))).collect();
        let rails = add_rails(many, &[]);
        assert_eq!(rails.len(), RAILS_MAX);
        assert_eq!(rails[0].why.len(), WHY_BYTES_MAX);
    }
}
