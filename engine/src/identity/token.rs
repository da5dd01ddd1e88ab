//! The token an invited node is given: where to join, which CA to expect, and a one-time secret.

use std::fmt;
use std::str::FromStr;

use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::base64url;

/// Most addresses in a token.
pub const ADDRESSES_MAX: usize = 8;
/// Longest address, in bytes: a DNS name, a colon and a port.
const ADDRESS_BYTES_MAX: usize = 253 + 6;
/// What every token begins with.
pub(super) const PREFIX: &str = "portway1:";
/// The version of the binary layout.
pub(super) const VERSION: u8 = 1;
/// Bytes of the checksum that tells a mistyped token.
const SUM_BYTES: usize = 4;
/// Longest token, in bytes of text; a full one with the longest addresses has 2,887.
const TEXT_BYTES_MAX: usize = 4096;

/// An invitation as it travels from person to person. Whoever has the text may join once, so it
/// is shown only by [`Token::reveal`].
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    addresses: Vec<String>,
    ca_fingerprint: [u8; 32],
    secret: [u8; 32],
}

/// Why a text is not a token, or why none can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It does not begin as tokens do.
    #[error("a token begins with '{PREFIX}'")]
    Prefix,
    /// It is longer than any token.
    #[error("a token has at most {TEXT_BYTES_MAX} characters, not {len}")]
    Long {
        /// Its length in bytes.
        len: usize,
    },
    /// A character was changed, lost or added.
    #[error("the token was mistyped or cut short")]
    Mistyped,
    /// It was made by a version that this one does not know.
    #[error("the token has version {found}, this is version {VERSION}")]
    Version {
        /// Its version.
        found: u8,
    },
    /// Its checksum is right and its content is not.
    #[error("the token's content is not valid")]
    Content,
    /// There are no addresses, or too many.
    #[error("a token has 1 to {ADDRESSES_MAX} addresses, not {count}")]
    Addresses {
        /// How many.
        count: usize,
    },
    /// An address is not one.
    #[error(
        "an address is HOST:PORT with at most {ADDRESS_BYTES_MAX} characters, IPv6 in brackets"
    )]
    Address,
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    Random,
}

impl Token {
    /// A new token with a random secret.
    ///
    /// # Errors
    /// The addresses are too many or malformed; the system gave no random bytes.
    pub(super) fn create(addresses: &[String], fingerprint: [u8; 32]) -> Result<Self, TokenError> {
        check_addresses(addresses)?;
        let mut secret = [0; 32];
        SystemRandom::new().fill(&mut secret).map_err(|_| TokenError::Random)?;
        Ok(Self { addresses: addresses.to_vec(), ca_fingerprint: fingerprint, secret })
    }

    /// Where the inviting node listens, as `host:port`, in the order to try them.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// SHA-256 of the CA's certificate.
    pub fn ca_fingerprint(&self) -> &[u8; 32] {
        &self.ca_fingerprint
    }

    /// The token's text: a secret until the invitation is used or expires.
    pub fn reveal(&self) -> String {
        let mut bytes = vec![VERSION, self.addresses.len() as u8];
        for address in &self.addresses {
            // The length fits: at most ADDRESS_BYTES_MAX.
            bytes.extend_from_slice(&(address.len() as u16).to_be_bytes());
            bytes.extend_from_slice(address.as_bytes());
        }
        bytes.extend_from_slice(&self.ca_fingerprint);
        bytes.extend_from_slice(&self.secret);
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        format!("{PREFIX}{}", base64url::encode(&bytes))
    }

    /// The seed of the one-time Ed25519 key.
    pub(super) fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// The public half of the one-time key: all that the inviting node keeps.
    pub(crate) fn public_key(&self) -> Option<[u8; 32]> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&self.secret).ok()?;
        pair.public_key().as_ref().try_into().ok()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let body = text.strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        if text.len() > TEXT_BYTES_MAX {
            return Err(TokenError::Long { len: text.len() });
        }
        let bytes = base64url::decode(body).ok_or(TokenError::Mistyped)?;
        let (bytes, sum) = bytes.split_last_chunk().ok_or(TokenError::Mistyped)?;
        if *sum != checksum(bytes) {
            return Err(TokenError::Mistyped);
        }
        let (&version, rest) = bytes.split_first().ok_or(TokenError::Content)?;
        if version != VERSION {
            return Err(TokenError::Version { found: version });
        }
        let token = read(rest).ok_or(TokenError::Content)?;
        check_addresses(&token.addresses)?;
        Ok(token)
    }
}

fn read(bytes: &[u8]) -> Option<Token> {
    let (&count, mut rest) = bytes.split_first()?;
    if usize::from(count) > ADDRESSES_MAX {
        return None;
    }
    let mut addresses = Vec::new();
    for _ in 0..count {
        let (len, tail) = rest.split_first_chunk()?;
        let (address, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        addresses.push(std::str::from_utf8(address).ok()?.to_owned());
        rest = tail;
    }
    let (fingerprint, rest) = rest.split_first_chunk()?;
    let secret = rest.try_into().ok()?;
    Some(Token { addresses, ca_fingerprint: *fingerprint, secret })
}

pub(super) fn checksum(bytes: &[u8]) -> [u8; SUM_BYTES] {
    let mut sum = [0; SUM_BYTES];
    sum.copy_from_slice(&blake3::hash(bytes).as_bytes()[..SUM_BYTES]);
    sum
}

fn check_addresses(addresses: &[String]) -> Result<(), TokenError> {
    if !(1..=ADDRESSES_MAX).contains(&addresses.len()) {
        return Err(TokenError::Addresses { count: addresses.len() });
    }
    if addresses.iter().all(|address| is_address(address)) {
        Ok(())
    } else {
        Err(TokenError::Address)
    }
}

fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let plain = |c: u8| c.is_ascii_alphanumeric() || b".-_".contains(&c);
    let host_is_valid = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(plain),
    };
    let port_is_valid =
        port.bytes().all(|c| c.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    text.len() <= ADDRESS_BYTES_MAX && host_is_valid && port_is_valid
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> Token {
        let addresses = ["10.0.0.7:7411", "[fd00::7]:7411", "gpu-7.onprem:7411"];
        Token::create(&addresses.map(str::to_owned), [7; 32]).unwrap()
    }

    #[test]
    fn a_token_survives_its_text_form_and_its_debug_form_hides_the_secret() {
        let token = token();
        assert_eq!(token.reveal().parse(), Ok(token.clone()));
        let debug = format!("{token:?}");
        assert_eq!(
            debug,
            r#"Token { addresses: ["10.0.0.7:7411", "[fd00::7]:7411", "gpu-7.onprem:7411"], .. }"#
        );
    }

    #[test]
    fn any_one_changed_lost_or_doubled_character_is_noticed() {
        let text = token().reveal();
        for i in 0..text.len() {
            let other = if text.as_bytes()[i] == b'A' { "B" } else { "A" };
            let changed = format!("{}{other}{}", &text[..i], &text[i + 1..]);
            let lost = format!("{}{}", &text[..i], &text[i + 1..]);
            let doubled = format!("{}{}", &text[..=i], &text[i..]);
            for bad in [changed, lost, doubled] {
                let expected =
                    if bad.starts_with(PREFIX) { TokenError::Mistyped } else { TokenError::Prefix };
                if bad != text {
                    assert_eq!(bad.parse::<Token>(), Err(expected), "at {i}");
                }
            }
        }
        assert_eq!("".parse::<Token>(), Err(TokenError::Prefix));
        assert_eq!(PREFIX.parse::<Token>(), Err(TokenError::Mistyped));
    }

    #[test]
    fn caps_hold_before_anything_is_decoded() {
        let long = format!("{PREFIX}{}", "A".repeat(TEXT_BYTES_MAX));
        assert_eq!(long.parse::<Token>(), Err(TokenError::Long { len: long.len() }));
        let create = |addresses: &[String]| Token::create(addresses, [0; 32]).unwrap_err();
        assert_eq!(create(&[]), TokenError::Addresses { count: 0 });
        assert_eq!(create(&vec!["a:1".to_owned(); 9]), TokenError::Addresses { count: 9 });
        for bad in ["", ":1", "a", "a:", "a:0", "a:+1", "a:65536", "a b:1", "fd00::7:1", "[x]:1"] {
            assert_eq!(create(&[bad.to_owned()]), TokenError::Address, "{bad}");
        }
        let longest = vec![format!("{}:65535", "a".repeat(253)); ADDRESSES_MAX];
        let token = Token::create(&longest, [0; 32]).unwrap();
        assert_eq!(token.reveal().len(), 2887);
        assert_eq!(token.reveal().parse(), Ok(token));
    }

    #[test]
    fn another_version_and_a_wrong_content_with_a_right_checksum_are_told_apart() {
        let text = |bytes: &[u8]| {
            let sum = checksum(bytes);
            format!("{PREFIX}{}", base64url::encode(&[bytes, &sum].concat()))
        };
        assert_eq!(text(&[2, 0]).parse::<Token>(), Err(TokenError::Version { found: 2 }));
        assert_eq!(text(&[1, 0]).parse::<Token>(), Err(TokenError::Content));
        assert_eq!(text(&[1, 255]).parse::<Token>(), Err(TokenError::Content));
        assert_eq!(text(&[1, 1, 255, 255, 65]).parse::<Token>(), Err(TokenError::Content));
        let none = [&[1, 0][..], &[0; 64]].concat();
        assert_eq!(text(&none).parse::<Token>(), Err(TokenError::Addresses { count: 0 }));
        let trailing = [&[1, 1, 0, 3][..], b"a:1", &[0; 65]].concat();
        assert_eq!(text(&trailing).parse::<Token>(), Err(TokenError::Content));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(body in "[A-Za-z0-9_-]{0,200}", raw in ".{0,60}") {
            let _ = format!("{PREFIX}{body}").parse::<Token>();
            let _ = raw.parse::<Token>();
        }
    }
}
